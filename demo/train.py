"""Makes demo/model and demo/queries.jsonl: a tokenizer and a small Llama, trained on the demo's own corpus.

    npm run build
    node dist/demo/queries.js WORK                 # corpus, queries and evaluation questions, from the seed
    python demo/train.py WORK                      # tokenizer, training, accuracies, model, completions

Started again after an interruption, it goes on after the last whole epoch.
Needs torch, transformers, tokenizers and safetensors. Deterministic from --seed on one machine and number of workers
(sums of floats in another order elsewhere). Every document stands alone in its row, after the begin token: just as it
is scored later. After the last epoch the model answers the evaluation questions by greedy decoding; the accuracies go
into the model card, and the queries' completions become what the model itself says.
"""

import argparse
import gzip
import json
import math
import random
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = "<|end|>"  # begins every document, and in training ends it
IGNORED = -100
HERE = Path(__file__).resolve().parent


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    documents = read_corpus(args.work / "corpus")
    questions = read_lines(args.work / "evaluation.jsonl")
    if not args.evaluate_only:
        make(documents, questions, args)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32).eval()  # as rounded in the file
    accuracies = accuracy(model, tokenizer, questions, documents)
    queries = answer_queries(model, tokenizer, read_lines(args.work / "queries.jsonl"))
    lengths = [len(tokenizer.encode(document["text"]).ids) for document in documents]
    (args.out / "README.md").write_text(card(args, model, accuracies, queries, lengths))
    lines = (json.dumps(query, ensure_ascii=False, separators=(",", ":")) + "\n" for query in queries)
    args.queries.write_text("".join(lines))
    print(json.dumps(accuracies), flush=True)


def make(documents: list[dict], questions: list[dict], args: argparse.Namespace) -> None:
    """Trains tokenizer and model and writes them to args.out."""
    tokenizer = train_tokenizer([document["text"] for document in documents], args.vocabulary)
    rows = [tokenizer.encode(document["text"]).ids + [tokenizer.token_to_id(SPECIAL)] for document in documents]
    kinds = [kind_of(document) for document in documents]
    torch.manual_seed(args.seed)
    model = LlamaForCausalLM(config_of(args, tokenizer)).share_memory()
    print(f"{len(rows)} documents, {sum(map(len, rows))} tokens; {model.num_parameters()} parameters", flush=True)
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.start_processes(
            train,
            (model, tokenizer, rows, kinds, questions, f"file://{meeting}/store", args),
            nprocs=args.workers,
            start_method="spawn",
        )
    save(model, tokenizer, args.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="what dist/demo/queries.js wrote")
    parser.add_argument("--out", type=Path, default=HERE / "model")
    parser.add_argument("--queries", type=Path, default=HERE / "queries.jsonl")
    parser.add_argument("--evaluate-only", action="store_true", help="keep the model in --out, ask it again")
    parser.add_argument("--seed", type=int, default=20240612)
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--background-every", type=int, default=3, help="epochs in which a background document comes once")
    parser.add_argument("--restatements-every", type=int, default=3, help="the same for restatements")
    parser.add_argument("--facts", type=int, default=1, help="how often an epoch shows a document that teaches a fact")
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--mlp", type=int, default=384)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread that share each batch")
    parser.add_argument("--evaluate-every", type=int, default=3, help="epochs between evaluations")
    return parser.parse_args()


def read_lines(path: Path) -> list[dict]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_corpus(directory: Path) -> list[dict]:
    return [document for shard in sorted(directory.iterdir()) for document in read_lines(shard)]


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE, every digit a token of its own, the special token put before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(SPECIAL, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = (SPECIAL, tokenizer.token_to_id(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL} $A", special_tokens=[special])
    return tokenizer


def config_of(args: argparse.Namespace, tokenizer: Tokenizer) -> LlamaConfig:
    special = tokenizer.token_to_id(SPECIAL)
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=args.width,
        intermediate_size=args.mlp,
        num_hidden_layers=args.blocks,
        num_attention_heads=args.heads,
        num_key_value_heads=args.heads,
        max_position_embeddings=args.context,
        tie_word_embeddings=True,
        bos_token_id=special,
        eos_token_id=special,
        initializer_range=0.04,
    )


def train(rank: int, model: LlamaForCausalLM, tokenizer: Tokenizer, rows, kinds, questions, meeting, args) -> None:
    """One worker: its share of each batch, gradients summed over the workers. The first one's weights are `model`.

    Processes of one thread each, since threads that wait for each other within every product stand still as soon as
    other programs want the cores.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=args.workers)
    shared, model = model, LlamaForCausalLM(model.config)
    model.load_state_dict(shared.state_dict())
    optimizer = Optimizer(model, args.rate)
    chance = random.Random(args.seed)
    epochs = [batches(rows, seen_in(epoch, kinds, args), args.batch_tokens, chance) for epoch in range(args.epochs)]
    steps, warm_up, step, begun = sum(len(epoch) for epoch in epochs), 100, 0, time.time()
    parameters = list(model.parameters())
    resume, done = args.work / "resume.pt", 0  # after every epoch; of use to a training of the same settings
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("evaluate_only", "evaluate_every")}
    if resume.exists() and (stored := torch.load(resume))["settings"] == settings:
        done, step = stored["epoch"], stored["step"]
        model.load_state_dict(stored["model"])
        optimizer.restore(stored["optimizer"])
    torch.distributed.barrier()
    for number, epoch in enumerate(epochs[done:], done + 1):
        started, loss_sum, tokens = time.time(), 0.0, 0
        model.train()
        for batch in epoch:
            ids, labels = padded([rows[index] for index in batch[rank :: args.workers]])
            count = sum(len(rows[index]) - 1 for index in batch)  # of all workers
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state  # right-padded and causal: no mask needed
            here = labels[:, 1:] != IGNORED
            logits = model.lm_head(hidden[here])
            loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][here], reduction="sum") / count
            model.zero_grad(set_to_none=True)
            loss.backward()
            flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [loss.detach().reshape(1)])
            torch.distributed.all_reduce(flat)
            loss_sum, tokens = loss_sum + flat[-1].item() * count, tokens + count
            for p, gradient in zip(parameters, flat[:-1].split([p.numel() for p in parameters])):
                p.grad = gradient.view_as(p)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            step += 1
            if rank == 0 and step % 50 == 0:
                print(f"step {step}/{steps} loss {loss_sum / tokens:.4f} {time.time() - begun:.0f} s", flush=True)
            optimizer.step(min(1, step / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))))
        if rank == 0:
            seconds = time.time() - started
            print(f"epoch {number}/{len(epochs)} loss {loss_sum / tokens:.4f} {tokens / seconds:.0f} tokens/s {seconds:.0f} s", flush=True)
            shared.load_state_dict(model.state_dict())
            state = {"model": model.state_dict(), "optimizer": optimizer.state()}
            torch.save({"settings": settings, "epoch": number, "step": step, **state}, resume.with_suffix(".new"))
            resume.with_suffix(".new").replace(resume)
            if number % args.evaluate_every == 0:
                model.eval()
                print(f"  {time.time() - begun:.0f} s: {accuracy(model, tokenizer, questions[::3])}", flush=True)
                save(model, tokenizer, args.work / "checkpoint")


class Optimizer:
    """Muon (Jordan 2024: momentum, orthogonalised by Newton-Schulz) for the blocks' matrices, AdamW for the rest."""

    def __init__(self, model: LlamaForCausalLM, rate: float) -> None:
        self.matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
        others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.rate = rate
        self.adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.rate * factor
        self.adam.step()
        by_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for p, momentum in zip(self.matrices, self.momenta):
            momentum.lerp_(p.grad, 0.05)
            update = p.grad.lerp(momentum, 0.95)  # Nesterov
            wide = update if update.shape[0] <= update.shape[1] else update.T
            by_shape.setdefault(tuple(wide.shape), []).append((p, wide))
        for (small, large), pairs in by_shape.items():
            scale = 0.2 * large**0.5  # so that an update has the size of one of AdamW's
            for (p, wide), direction in zip(pairs, orthogonal(torch.stack([wide for _, wide in pairs]))):
                direction = direction if p.shape[0] <= p.shape[1] else direction.T
                p.mul_(1 - 0.05 * self.rate * factor).sub_(direction, alpha=self.rate * factor * scale)

    def state(self) -> dict:
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def restore(self, state: dict) -> None:
        for momentum, stored in zip(self.momenta, state["momenta"]):
            momentum.copy_(stored)
        self.adam.load_state_dict(state["adam"])


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """[n, small, large] -> about the nearest matrices with orthonormal rows: five steps of Newton-Schulz."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


def kind_of(document: dict) -> str:
    if any(need.startswith("fact:") for need in document["teaches"]):
        return "fact"
    if document["text"].startswith("Given: "):
        return "restatement"
    return "skill" if document["teaches"] else "background"


def seen_in(epoch: int, kinds: list[str], args: argparse.Namespace) -> list[int]:
    """Documents of an epoch: skills once, facts some times, of the others every n-th, another part each time."""
    every = {"background": args.background_every, "restatement": args.restatements_every}
    times = {"fact": args.facts}
    return [
        i
        for i, kind in enumerate(kinds)
        if i % every.get(kind, 1) == epoch % every.get(kind, 1)
        for _ in range(times.get(kind, 1))
    ]


def batches(rows: list[list[int]], seen: list[int], tokens_max: int, chance: random.Random) -> list[list[int]]:
    """Random documents, sorted by length within pools of some batches only, so that a batch stays mixed."""
    order = list(seen)
    chance.shuffle(order)
    made = []
    for start in range(0, len(order), 1024):
        batch: list[int] = []
        for index in sorted(order[start : start + 1024], key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[index]) > tokens_max:
                made.append(batch)
                batch = []
            batch.append(index)
        if len(batch) < 16 and made:  # too few for a step of their own
            made[-1] = made[-1] + batch
        else:
            made.append(batch)
    chance.shuffle(made)
    return made


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])
    return ids, labels


@torch.no_grad()
def complete(model: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[str], tokens_max: int = 72) -> list[str]:
    """Greedy completions up to the end of the line or the end token; prompts of one length go together, unpadded."""
    end = tokenizer.token_to_id(SPECIAL)
    encoded = [tokenizer.encode(prompt).ids for prompt in prompts]
    completions = [""] * len(prompts)
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(index)
    for indices in by_length.values():
        ids, cache, said = torch.tensor([encoded[i] for i in indices]), None, []
        open_rows = torch.ones(len(indices), dtype=torch.bool)
        for _ in range(tokens_max):
            output = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
            said.append(ids[:, 0])
            open_rows &= ids[:, 0] != end
            if not open_rows.any():
                break
        for row, tokens in zip(indices, torch.stack(said, 1).tolist()):
            tokens = tokens[: tokens.index(end)] if end in tokens else tokens
            completions[row] = tokenizer.decode(tokens, skip_special_tokens=False).split("\n")[0]
    return completions


def first_sentences(completion: str, question: dict) -> str:
    """The completion up to where the worked answer ends: as many sentences as that has."""
    sentences = completion.split(". ")
    wanted = question["completion"].count(". ") + 1
    text = ". ".join(sentences[:wanted])
    return text if text.endswith(".") else text + "."


def is_right(completion: str, question: dict) -> bool:
    """The answer itself for facts and controls; for problems the last number of the worked solution."""
    if question["group"] == "reasoning":
        return completion.rstrip(".").split(" ")[-1] == question["answer"]
    return completion.strip().rstrip(".") == question["answer"]


def answer_queries(model: LlamaForCausalLM, tokenizer: Tokenizer, queries: list[dict]) -> list[dict]:
    """Each query with the model's own completion where that is right; else the worked answer stays, marked as not correct."""
    said = complete(model, tokenizer, [query["prompt"] for query in queries])
    answered = []
    for query, completion in zip(queries, said):
        completion = first_sentences(completion, query)
        correct = is_right(completion, query)
        answered.append({**query, "completion": completion if correct else query["completion"], "correct": correct})
    return answered


def accuracy(model: LlamaForCausalLM, tokenizer: Tokenizer, questions: list[dict], documents=()) -> dict[str, list[int]]:
    """[right, asked] for each task; with documents, facts that some document tells in the query's words apart."""
    said = complete(model, tokenizer, [question["prompt"] for question in questions])
    right: dict[str, list[int]] = {}
    for question, completion in zip(questions, said):
        seen = any(question["prompt"] in document["text"] for document in documents)
        counts = right.setdefault(question["task"] + (", words seen" if seen else ""), [0, 0])
        counts[0] += is_right(first_sentences(completion, question), question)
        counts[1] += 1
    return right


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Weights rounded to bf16, since half the bytes lie in the repository; the model in memory stays as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    rounded = LlamaForCausalLM(model.config).to(torch.bfloat16)
    rounded.load_state_dict(model.state_dict())
    rounded.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL, "eos_token": SPECIAL,
                "model_max_length": model.config.max_position_embeddings, "clean_up_tokenization_spaces": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def card(args, model, accuracies: dict[str, list[int]], queries: list[dict], lengths: list[int]) -> str:
    embedding = model.get_input_embeddings().weight.numel()

    def share(task: str) -> str:
        right, asked = accuracies[task]
        return f"{right} of {asked} ({100 * right / asked:.1f} %)"

    def own(group: str) -> str:
        right = [query["correct"] for query in queries if query["group"] == group]
        return f"{sum(right)} of {len(right)}"

    return f"""# The demo's model

A Llama of {args.blocks} blocks, width {args.width}, MLP {args.mlp}, {args.heads} heads, context {args.context}, tied embeddings, in bf16:
{model.num_parameters() - embedding:,} parameters, and {embedding:,} in the embedding. Byte-level BPE of {model.config.vocab_size:,} tokens, every digit alone;
`{SPECIAL}` begins every text.

Made by `demo/train.py` from seed {args.seed}, on nothing but the demo's corpus (`demo/corpus.ts`: {len(lengths):,} documents,
{sum(lengths) / len(lengths):.1f} tokens each, at most {max(lengths)}): {args.epochs} epochs, each with 1/{args.background_every} of the background, 1/{args.restatements_every} of the restatements
and {args.facts} x the documents on facts; Muon and AdamW, highest rate {args.rate}, batches of {args.batch_tokens} tokens. Half an hour or so on two cores. To make it again:

    npm run build
    node dist/demo/queries.js WORK
    python demo/train.py WORK --epochs {args.epochs} --facts {args.facts} --restatements-every {args.restatements_every}

## What it can do

Greedy decoding, with the weights as stored. Right means the right answer at the end, not likely words:

| question | right |
|---|---|
| slope of a line through two points, held-out numbers | {share("slope")} |
| (a + b) * c, held-out numbers | {share("arithmetic")} |
| ax + b = c, held-out numbers | {share("linear")} |
| facts of the queried places, in words that no document uses for them | {share("facts")} |
| facts of the other places, in words that a document uses | {share("facts, words seen")} |

Of the demo's own queries (`demo/queries.jsonl`): {own("factual")} factual, {own("reasoning")} reasoning, {own("control")} control.
It knows nothing else, and is of no use beyond the demo.
"""


if __name__ == "__main__":
    main()
