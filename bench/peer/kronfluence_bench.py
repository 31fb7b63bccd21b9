#!/usr/bin/env python3
"""The peer: how fast kronfluence fits factors, prepares queries and scores, on the documents and queries of our bench.

    python kronfluence_bench.py --model DIR --documents documents.jsonl --queries queries.jsonl \\
        [--tokens 512] [--batch 4] [--rank 32] [--queries-at-once 40] [--track REGEX] [--threads N] [--out FILE.json]

Both files have one JSON object a line: {"tokens": [...]}, of a query with "prompt", the number of its tokens that are
prompt (`make-inputs.ts` writes them). MLP layers only, f32, sums of token losses, labels sampled from the model.

What is measured, and how: the task that kronfluence calls notes the time of every call, so a batch lasts from its
call to the next one. That leaves out reading, writing and set-up, which say nothing about the method, and the first
batch of a phase, which warms up. kronfluence keeps all prepared queries in memory; more than `--queries-at-once` are
scored in several passes over the documents, as its user would have to.

The f32 GEMM rate of torch and of numpy is measured in the same run, before and after: on a shared machine the two
tell how far the figures can be trusted. Run with OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE unset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from kronfluence import __version__ as kronfluence_version
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from transformers import AutoModelForCausalLM

MLP = r".*\.mlp\..*"  # Hugging Face's Llama family; GPT-2 spells its MLP so too, but has Conv1D, which the peer skips
GEMMS = {"documents": (2048, 576, 1536), "head": (2048, 576, 49152)}  # m, k, n
BATCHES_MIN = 3  # one to warm up, and two whose starts have a time between them


def main() -> None:
    parser = argparse.ArgumentParser(description="kronfluence's speed, as JSON")
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=512, help="documents of exactly so many tokens are used")
    parser.add_argument("--documents-max", type=int, default=32)
    parser.add_argument("--queries-max", type=int, default=10)
    parser.add_argument("--queries-at-once", type=int, default=40, help="11 GB resident at 40 on SmolLM2-135M")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--track", default=MLP, help="regular expression over module names")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the JSON goes; default: standard output")
    args = parser.parse_args()

    documents = [row["tokens"] for row in rows(args.documents) if len(row["tokens"]) == args.tokens]
    documents = documents[: args.documents_max]
    queries = [(row["tokens"], row["prompt"]) for row in rows(args.queries)][: args.queries_max]
    if len(documents) < BATCHES_MIN * args.batch:
        sys.exit(f"{args.documents} has {len(documents)} documents of {args.tokens} tokens; "
                 f"{BATCHES_MIN} batches of {args.batch} are the least that can be timed")
    if len(queries) < 2:
        sys.exit(f"{args.queries} has {len(queries)} queries; two are the least that can be timed")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    result = {
        "what": "kronfluence",
        "versions": {"kronfluence": kronfluence_version, "torch": torch.__version__, "numpy": np.__version__,
                     "transformers": transformers.__version__, "python": platform.python_version()},
        "settings": {"tokens": args.tokens, "documents": len(documents), "queries": len(queries), "batch": args.batch,
                     "rank": args.rank, "queriesAtOnce": args.queries_at_once, "track": args.track,
                     "threads": args.threads, "seed": args.seed},
        "gemmGflopsBefore": gemm_rates(),
        **measured(args, documents, queries),
        "gemmGflopsAfter": gemm_rates(),
    }
    text = json.dumps(result, indent=2) + "\n"
    if args.out is None:
        print(text, end="")
    else:
        args.out.write_text(text, encoding="utf-8")


def measured(args: argparse.Namespace, documents: list, queries: list) -> dict:
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    model.config.use_cache = False
    model.eval()
    names = [name for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear) and re.fullmatch(args.track, name)]
    if not names:
        sys.exit(f"{args.model} has no linear layer named like {args.track}")
    task = TimedTask(names)
    train = [(tokens, 0) for tokens in documents]
    factor_args = FactorArguments(strategy="ekfac", use_empirical_fisher=False)
    out: dict = {"layers": len(names), "peakRssBytes": {}}

    def note_peak(phase: str) -> None:  # the highest so far, so of this phase or of one before it
        out["peakRssBytes"][phase] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with tempfile.TemporaryDirectory(prefix="kronfluence-") as folder:
        analyzer = Analyzer("bench", prepare_model(model, task), task, cpu=True, output_dir=folder, disable_tqdm=True)
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=collated))
        note_peak("load")

        calls = task.noting()
        analyzer.fit_covariance_matrices("f", train, per_device_batch_size=args.batch, factor_args=factor_args)
        out["covarianceTokensPerSecond"] = rate(calls, "train")
        note_peak("covariance")

        began = time.perf_counter()
        analyzer.perform_eigendecomposition("f", factor_args=factor_args)
        out["eigendecompositionSeconds"] = time.perf_counter() - began
        note_peak("eigendecomposition")

        calls = task.noting()
        analyzer.fit_lambda_matrices("f", train, per_device_batch_size=args.batch, factor_args=factor_args)
        out["lambdaTokensPerSecond"] = rate(calls, "train")
        note_peak("lambda")

        def score(name: str, some_queries: list, some_train: list, rank: int | None) -> list:
            calls = task.noting()
            analyzer.compute_pairwise_scores(
                name, "f", query_dataset=some_queries, train_dataset=some_train,
                per_device_query_batch_size=1, per_device_train_batch_size=args.batch,
                score_args=ScoreArguments(damping_factor=None, query_gradient_low_rank=rank,
                                          query_gradient_accumulation_steps=args.queries_at_once),
            )
            return calls

        # Full-rank queries are big (318 MB each on SmolLM2-135M): three are enough to time, and one batch of documents.
        calls = score("full", queries[:3], train[: args.batch], None)
        out["queryFullRankSeconds"] = seconds_between(calls, "query")
        note_peak("queriesFullRank")

        calls = score("low", queries, train, args.rank)
        out["querySeconds"] = seconds_between(calls, "query")
        passes = runs(calls, "train")
        out["scorePasses"] = len(passes)
        out["scoreTokensPerSecond"] = 1 / sum(1 / rate(one, "train") for one in passes)
        note_peak("score")
    return out


# --- the task, and the times of its calls --------------------------------------------------------------------------


class TimedTask(Task):
    """Sums over tokens; a measurement is log p(completion | prompt). Notes (kind, time, tokens) of every call."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.calls: list[tuple[str, float, int]] = []

    def noting(self) -> list[tuple[str, float, int]]:
        """A new list, which the calls to come fill."""
        self.calls = []
        return self.calls

    def compute_train_loss(self, batch, model, sample=False):
        self._note("train", batch)
        logits = self._logits(batch, model)
        if not sample:
            return summed(logits, batch["labels"])
        with torch.no_grad():
            labels = torch.multinomial(torch.softmax(logits.detach(), dim=-1), num_samples=1).flatten()
            labels[batch["labels"][:, 1:].reshape(-1) == -100] = -100
        return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

    def compute_measurement(self, batch, model):
        self._note("query", batch)
        return -summed(self._logits(batch, model), batch["labels"])

    def get_influence_tracked_modules(self):
        return self.names

    def get_attention_mask(self, batch):
        return batch["attention_mask"]

    def _note(self, kind: str, batch: dict) -> None:
        self.calls.append((kind, time.perf_counter(), int(batch["tokens"])))

    @staticmethod
    def _logits(batch: dict, model) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return logits[:, :-1].reshape(-1, logits.shape[-1])


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels[:, 1:].reshape(-1), ignore_index=-100, reduction="sum")


def collated(examples: list) -> dict:
    """(tokens, tokens of the prompt) pairs -> a batch; labels are -100 over prompts and padding."""
    longest = max(len(tokens) for tokens, _ in examples)

    def padded(values: list, fill: int) -> list:
        return values + [fill] * (longest - len(values))

    full = all(len(tokens) == longest for tokens, _ in examples)
    return {
        "input_ids": torch.tensor([padded(tokens, 0) for tokens, _ in examples]),
        "labels": torch.tensor([padded([-100] * prompt + tokens[prompt:], -100) for tokens, prompt in examples]),
        # Without padding no mask, so that attention takes its fastest causal path.
        "attention_mask": None if full else torch.tensor([padded([1] * len(tokens), 0) for tokens, _ in examples]),
        "tokens": sum(len(tokens) for tokens, _ in examples),
    }


def runs(calls: list, kind: str) -> list[list]:
    """The stretches of consecutive calls of this kind."""
    out: list[list] = []
    previous = None
    for call in calls:
        if call[0] == kind:
            if previous != kind:
                out.append([])
            out[-1].append(call)
        previous = call[0]
    return out


def rate(calls: list, kind: str) -> float:
    """Tokens per second from the second call to the last: a batch lasts from its call to the next."""
    own = [call for call in calls if call[0] == kind]
    own = own[1:] if len(own) > BATCHES_MIN - 1 else own
    return sum(tokens for _, _, tokens in own[:-1]) / (own[-1][1] - own[0][1])


def seconds_between(calls: list, kind: str) -> float:
    """Seconds of one call of this kind: from its start to the next call of any kind; the mean of all but the first."""
    lengths = [after[1] - before[1] for before, after in zip(calls, calls[1:]) if before[0] == kind]
    lengths = lengths[1:] if len(lengths) > 1 else lengths
    return sum(lengths) / len(lengths)


# --- the machine ---------------------------------------------------------------------------------------------------


def gemm_rates() -> dict:
    """GFLOP/s of f32 products, the best of five, by torch and by numpy."""
    generator = np.random.default_rng(0)
    out: dict = {"torch": {}, "numpy": {}}
    for name, (m, k, n) in GEMMS.items():
        a = generator.standard_normal((m, k), dtype=np.float32)
        b = generator.standard_normal((k, n), dtype=np.float32)
        for library, product in (("torch", lambda x=torch.from_numpy(a), y=torch.from_numpy(b): x @ y),
                                 ("numpy", lambda x=a, y=b: x @ y)):
            out[library][name] = 2 * m * k * n / best_of(5, product) / 1e9
    return out


def best_of(times: int, work) -> float:
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


if __name__ == "__main__":
    main()
