/**
 * @file A TCP proxy before a broker that knows the frames of Kafka's protocol, so far as to tell which answer ends a
 * transaction (EndTxn): those may be lost, held back, or cut off with their connection.
 *
 *     request: length i32 | api key i16 | api version i16 | correlation id i32 | client id (i16, text) | body
 *     answer:  length i32 | correlation id i32 | body
 */
import { once } from 'node:events'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'

/** What becomes of the end of a transaction. The first three have happened at the broker, the last one has not. */
export type Fate = 'fine' | 'answer lost' | 'answer cut' | { readonly heldMs: number } | 'request cut'

export interface Proxy {
  readonly port: number
  /** Where the broker is, 'host:port'; connections are refused until it is said. */
  upstream: string | undefined
  /** Asked about every end of a transaction; by default all is fine. */
  fateOf: (transactionalId: string) => Fate
  close(): Promise<void>
}

const END_TXN = 26
/** Versions from which a request has compact texts and tags; kafkajs asks with older ones. */
const END_TXN_FLEXIBLE = 3

/** Whole frames of a stream, each with its length before it. */
const frames = (onFrame: (frame: Buffer) => void): ((part: Buffer) => void) => {
  let held: Buffer = Buffer.alloc(0)
  return (part) => {
    held = held.length === 0 ? part : Buffer.concat([held, part])
    for (;;) {
      if (held.length < 4) return
      const end = 4 + held.readInt32BE(0)
      if (held.length < end) return
      onFrame(held.subarray(0, end))
      held = held.subarray(end)
    }
  }
}

/** The transactional id of an EndTxn request; undefined: it is another request. */
const endsTransaction = (frame: Buffer): string | undefined => {
  if (frame.length < 14 || frame.readInt16BE(4) !== END_TXN) return undefined
  if (frame.readInt16BE(6) >= END_TXN_FLEXIBLE) throw new Error('EndTxn has become flexible: the proxy has to learn its header')
  const at = 14 + Math.max(0, frame.readInt16BE(12))
  return frame.subarray(at + 2, at + 2 + frame.readInt16BE(at)).toString('utf8')
}

export const startProxy = async (): Promise<Proxy> => {
  const open = new Set<Socket>()
  const relay = (client: Socket, upstream: string): void => {
    const [host, port] = upstream.split(':')
    const broker = connect({ host, port: Number(port) })
    const fates = new Map<number, Fate>()
    /** Answers keep their order: one that is held holds those behind it. */
    let before = Promise.resolve()
    const end = (): void => {
      client.destroy()
      broker.destroy()
    }
    for (const socket of [client, broker]) {
      open.add(socket)
      socket.setNoDelay(true)
      socket.on('error', end)
      socket.on('close', () => {
        open.delete(socket)
        end()
      })
    }
    client.on('data', frames((frame) => {
      const id = endsTransaction(frame)
      const fate = id === undefined ? 'fine' : proxy.fateOf(id)
      if (fate === 'request cut') return end()
      if (fate !== 'fine') fates.set(frame.readInt32BE(8), fate)
      broker.write(frame)
    }))
    broker.on('data', frames((frame) => {
      const fate = fates.get(frame.readInt32BE(4)) ?? 'fine'
      fates.delete(frame.readInt32BE(4))
      if (fate === 'answer lost') return
      if (fate === 'answer cut') return end()
      before = before.then(async () => {
        if (typeof fate === 'object') await new Promise((resolve) => setTimeout(resolve, fate.heldMs).unref())
        if (!client.destroyed) client.write(frame)
      })
    }))
  }
  const server = createServer((client) => {
    if (proxy.upstream === undefined) client.destroy()
    else relay(client, proxy.upstream)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: Proxy = {
    port: (server.address() as AddressInfo).port,
    upstream: undefined,
    fateOf: () => 'fine',
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of open) socket.destroy()
      await closed
    },
  }
  return proxy
}
