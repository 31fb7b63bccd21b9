import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The job of bench/kafka.ts in the Kafka Streams library: a record of scores for each document, and four tables of 100
 * rows for each of 10 queries in a store with a changelog, exactly once. It decodes no document and keeps no moments, so
 * it does less. Arguments: brokers, input, output, documents, commit interval in ms, threads, state folder. Prints the
 * seconds from the first document to the end of the last commit.
 */
public final class Peer {
  private static final int QUERIES = 10;
  private static final int ROWS = 100;
  private static final AtomicLong done = new AtomicLong();
  private static final AtomicLong startedNanos = new AtomicLong();

  public static void main(String[] args) throws Exception {
    long documents = Long.parseLong(args[3]);
    long commitMs = Long.parseLong(args[4]);
    Properties properties = new Properties();
    properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-" + args[2]);
    properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, commitMs);
    properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(args[5]));
    properties.put(StreamsConfig.STATE_DIR_CONFIG, args[6]);
    properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    properties.put("auto.offset.reset", "earliest");
    Topology topology = new Topology();
    topology.addSource("documents", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), args[1]);
    topology.addProcessor("score", () -> new Score(commitMs), "documents");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("tables"), Serdes.Integer(), Serdes.ByteArray()), "score");
    topology.addSink("influence", args[2], Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "score");
    KafkaStreams streams = new KafkaStreams(topology, properties);
    streams.start();
    while (done.get() < documents) Thread.sleep(5);
    streams.close(Duration.ofSeconds(60)); // commits what is left
    System.out.println((System.nanoTime() - startedNanos.get()) / 1e9);
  }

  private static final class Score implements Processor<byte[], byte[], byte[], byte[]> {
    private final long commitMs;
    private final TreeMap<Double, Long>[] tables;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Integer, byte[]> store;
    private long at;

    @SuppressWarnings("unchecked")
    Score(long commitMs) {
      this.commitMs = commitMs;
      tables = new TreeMap[QUERIES * 4];
      for (int i = 0; i < tables.length; i++) tables[i] = new TreeMap<>();
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
      context = given;
      store = given.getStateStore("tables");
      given.schedule(Duration.ofMillis(commitMs), PunctuationType.WALL_CLOCK_TIME, (now) -> keep());
    }

    @Override
    public void process(Record<byte[], byte[]> document) {
      startedNanos.compareAndSet(0, System.nanoTime());
      ByteBuffer value = ByteBuffer.allocate(60 + 8 + QUERIES * 4);
      value.putLong(60, at);
      for (int q = 0; q < QUERIES; q++) {
        // A score without a pattern (splitmix64), as ours are drawn beforehand.
        long bits = (at * QUERIES + q) * 0x9E3779B97F4A7C15L;
        bits = (bits ^ (bits >>> 30)) * 0xBF58476D1CE4E5B9L;
        double score = (double) (bits >> 11);
        value.putFloat(68 + 4 * q, (float) score);
        double normed = score / (1 + at % 7);
        insert(tables[4 * q], score);
        insert(tables[4 * q + 1], -score);
        insert(tables[4 * q + 2], normed);
        insert(tables[4 * q + 3], -normed);
      }
      at++;
      context.forward(new Record<>(document.key(), value.array(), document.timestamp()));
      done.incrementAndGet();
    }

    private void insert(TreeMap<Double, Long> table, double score) {
      if (table.size() == ROWS && score <= table.firstKey()) return;
      table.put(score, at);
      if (table.size() > ROWS) table.pollFirstEntry();
    }

    private void keep() {
      for (int q = 0; q < QUERIES; q++) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * ROWS * 60); // a row of ours has the document's id and source too
        for (int t = 0; t < 4; t++) tables[4 * q + t].forEach((score, row) -> bytes.putDouble(score).putLong(row));
        store.put(q, bytes.array());
      }
    }

    @Override
    public void close() {}
  }
}
