"""Makes the references in this folder: tiny random checkpoints, and what other programs compute from them.

    python make.py            # writes gpt2/, llama/, mistral/, qwen2/ and micro/ beside this file
    python make.py --check    # makes them again in a temporary folder and compares with the committed ones

Three programs that share no code with tributary:
  transformers   the forward pass (float32 as it is, and the same code in float64), gradients by torch's autograd
  kronfluence    EK-FAC, K-FAC, diagonal and identity scores, on right-padded batches with attention masks
  numpy          the same scores from the definitions: one document at a time, no padding, every (G + λI) a dense matrix
                 that is solved; and for `micro` the exact Gauss-Newton matrix over all layers

README.md says what the files hold. Letters as in docs/method.md: T tokens, I in (with the bias column Ī), O out,
Q queries, N documents, L layers. Everything is deterministic from SEED.
"""

import argparse
import contextlib
import itertools
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

SEED = 20231
DOCUMENTS = 24
DAMPING_SCALE = 0.1  # λ = 0.1 · mean(Λ) per layer: kronfluence's HEURISTIC_DAMPING_SCALE, docs/method.md §3
GRADIENTS_OF_DOCUMENTS = 3
GRADIENTS_OF_QUERIES = 2
STRATEGIES = ("ekfac", "kfac", "diagonal", "identity")

# ---------------------------------------------------------------------------------------------------------------------
# The checkpoints. Each config.json is written as released checkpoints of the family spell it.
# ---------------------------------------------------------------------------------------------------------------------

LLAMA_LIKE = {
    "vocab_size": 96,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

CONFIGS = {
    # Conv1D weights (stored [I, O]), biases everywhere, LayerNorm, learned positions, a tied head.
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 96,
        "n_positions": 64,
        "n_embd": 24,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 40,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    # Grouped queries, head_dim 8 where hidden/heads is 6, an untied head; RoPE in its new spelling.
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **LLAMA_LIKE,
        "head_dim": 8,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    # A sliding window of 6 under documents of up to 40 tokens; RoPE in its old spelling.
    "mistral": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        **LLAMA_LIKE,
        "sliding_window": 6,
        "rope_theta": 5000.0,
        "tie_word_embeddings": False,
    },
    # Attention biases, a tied head, and a sliding window that is named but switched off.
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **LLAMA_LIKE,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "sliding_window": 6,
        "use_sliding_window": False,
        "max_window_layers": 1,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    # Small enough for a dense Gauss-Newton matrix. Weight names lack the `transformer.` prefix, as in the released one.
    "micro": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 12,
        "n_positions": 16,
        "n_embd": 8,
        "n_layer": 1,
        "n_head": 2,
        "n_inner": 12,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}

# Scalings of RoPE, as changes to config.json over the weights of `llama`: logits only. The context scaled from is 16
# positions, fewer than the document has, so that every one of them matters.
ROPES = {
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "dynamic": {
        "max_position_embeddings": 16,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    },
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "longrope": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 1.5, 2.5, 4.0],
            "original_max_position_embeddings": 16,
        }
    },
}


@dataclass(frozen=True)
class Inputs:
    documents: list  # of token ids
    queries: list  # of (prompt, completion), token ids each


def random_inputs(name: str, config: dict) -> Inputs:
    """Documents of unequal lengths from 2 to 40 tokens (15 for `micro`) and 5 queries, of random token ids."""
    rng = np.random.default_rng([SEED, list(CONFIGS).index(name), 1])
    longest = min(40, config.get("n_positions", 64) - 1)

    def ids(length):
        return rng.integers(0, config["vocab_size"], length).tolist()

    lengths = rng.permutation(np.linspace(2, longest, DOCUMENTS).round().astype(int))
    prompts, completions = ([6, 2, 9, 4, 7], [3, 5, 2, 1, 4])
    return Inputs([ids(n) for n in lengths], [(ids(p), ids(c)) for p, c in zip(prompts, completions)])


def random_weights(model: nn.Module, name: str) -> None:
    """Weights that make peaked distributions, and norms and biases that are not 1 and 0."""
    rng = np.random.default_rng([SEED, list(CONFIGS).index(name), 2])
    for key, parameter in sorted(model.named_parameters()):
        z = rng.standard_normal(tuple(parameter.shape))
        is_norm = "norm" in key or ".ln_" in key
        if is_norm and key.endswith("weight"):
            value = 1 + 0.2 * z
        elif key.endswith("bias"):
            value = 0.1 * z
        elif any(part in key for part in ("wte", "embed_tokens", "lm_head")):
            value = 0.4 * z
        else:
            value = 0.2 * z
        parameter.data.copy_(torch.from_numpy(value))


def save_checkpoint(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", CONFIGS[name])
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    random_weights(model, name)
    (model.transformer if name == "micro" else model).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_json(folder / "config.json", CONFIGS[name] | {"dtype": "float32"})


# ---------------------------------------------------------------------------------------------------------------------
# The models in float64. transformers computes norms, softmax and RoPE in float32 whatever the model's dtype.
# ---------------------------------------------------------------------------------------------------------------------


class Float64Torch(ModuleType):
    """`torch` for the modeling files of transformers, in which float32 means float64."""

    float32 = torch.float64

    def __getattr__(self, key):
        return getattr(torch, key)


@contextlib.contextmanager
def upcasts_to_float64():
    """While open, where transformers asks for float32 inside a forward pass it gets float64."""
    models = transformers.models
    modules = [models.llama.modeling_llama, models.mistral.modeling_mistral, models.qwen2.modeling_qwen2]
    for module in modules:
        module.torch = Float64Torch("torch")
    try:
        yield
    finally:
        for module in modules:
            module.torch = torch


def exact_rotary(config):
    """RoPE without scaling, in float64: angle[t, d] = t · θ^(−2d/D)."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

    def forward(x, position_ids):
        angles = position_ids[..., None].double() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    return forward


def load(folder: Path, dtype: torch.dtype) -> nn.Module:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = model.eval().to(dtype)
    if dtype == torch.float64 and hasattr(model, "model"):
        assert model.config.rope_parameters["rope_type"] == "default"
        model.model.rotary_emb.forward = exact_rotary(model.config)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# Layers and gradients
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    name: str
    part: str  # attention | mlp
    outputs: int  # O
    inputs: int  # I, without the bias column
    bias: bool


def layers_of(model: nn.Module) -> list:
    """All linear layers of the blocks, in the order of the modules; never the output head."""
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and name != "lm_head":
            outputs, inputs = module.weight.shape if isinstance(module, nn.Linear) else module.weight.shape[::-1]
            part = "mlp" if ".mlp." in name else "attention"
            layers.append(Layer(name, part, outputs, inputs, module.bias is not None))
    return layers


def token_losses(logits: torch.Tensor, tokens: list) -> torch.Tensor:
    """−log p(x_t | x_<t) for t = 1 .. T−1, nats. logits [T, V] → [T−1]"""
    return F.cross_entropy(logits[:-1], torch.tensor(tokens[1:]), reduction="none")


class Trace:
    """A forward pass of one text alone, with what enters and leaves every linear layer."""

    def __init__(self, model: nn.Module, layers: list, tokens: list):
        self.model, self.layers = model, layers
        self.entering, self.leaving = {}, {}

        def keep(name):
            def hook(module, inputs, output):
                self.entering[name] = inputs[0].detach()[0]
                self.leaving[name] = output

            return hook

        handles = [model.get_submodule(layer.name).register_forward_hook(keep(layer.name)) for layer in layers]
        self.logits = model(torch.tensor([tokens])).logits[0]
        for handle in handles:
            handle.remove()

    def inputs(self, layer: Layer) -> np.ndarray:
        """ā [T, Ī]"""
        a = self.entering[layer.name].numpy()
        return np.hstack([a, np.ones((len(a), 1))]) if layer.bias else a

    def gradients(self, value: torch.Tensor):
        """∂value/∂[W b] by autograd's own weight gradient, [O, Ī], and ∂value/∂y [T, O], for every layer."""
        wanted = []
        for layer in self.layers:
            module = self.model.get_submodule(layer.name)
            wanted += [module.weight, *([module.bias] if layer.bias else []), self.leaving[layer.name]]
        found = iter(torch.autograd.grad(value, wanted, retain_graph=True))
        weights, outputs = {}, {}
        for layer in self.layers:
            gradient = next(found).numpy()
            if isinstance(self.model.get_submodule(layer.name), Conv1D):
                gradient = gradient.T
            if layer.bias:
                gradient = np.hstack([gradient, next(found).numpy()[:, None]])
            weights[layer.name] = gradient.copy()
            outputs[layer.name] = next(found)[0].numpy()
            sums = outputs[layer.name].T @ self.inputs(layer)  # Σ_t δ_t ā_tᵀ
            assert np.allclose(sums, gradient, rtol=1e-9, atol=1e-12), layer.name
        return weights, outputs


def document_trace(model, layers, tokens):
    trace = Trace(model, layers, tokens)
    loss = token_losses(trace.logits, tokens).sum()
    weights, outputs = trace.gradients(loss)
    return trace, loss.item(), weights, outputs


def query_gradient(model, layers, prompt, completion):
    """f = log p(completion | prompt) and ∇f; prompt positions keep the gradient that attention carries into them."""
    trace = Trace(model, layers, prompt + completion)
    measurement = -token_losses(trace.logits, prompt + completion)[len(prompt) - 1 :].sum()
    weights, _ = trace.gradients(measurement)
    return measurement.item(), weights


# ---------------------------------------------------------------------------------------------------------------------
# The dense reference: definitions, one layer at a time, (G + λI) as a matrix over vec(W̄), row-major
# ---------------------------------------------------------------------------------------------------------------------


def block_diagonal(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """Zero outside `blocks` diagonal blocks; block b is [⌊n·b/blocks⌋, ⌊n·(b+1)/blocks⌋)."""
    which = np.searchsorted([len(matrix) * b // blocks for b in range(1, blocks)], np.arange(len(matrix)), "right")
    return np.where(which[:, None] == which[None, :], matrix, 0.0)


def eigenbasis(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """Eigenvectors as columns, of each diagonal block apart: degenerate values must not mix blocks."""
    basis = np.zeros_like(matrix)
    cuts = [len(matrix) * b // blocks for b in range(blocks + 1)]
    for start, end in zip(cuts, cuts[1:]):
        basis[start:end, start:end] = np.linalg.eigh(matrix[start:end, start:end])[1]
    return basis


def dense_fisher(strategy: str, A, S, squares, blocks: int = 1) -> np.ndarray:
    """The strategy's G over vec(W̄), [O·Ī, O·Ī].

    squares(B): for a basis B [O·Ī, O·Ī] of columns, mean over documents of the squared coordinates of the gradient.
    """
    A, S = block_diagonal(A, blocks), block_diagonal(S, blocks)
    size = len(S) * len(A)
    if strategy == "identity":
        return np.eye(size)
    if strategy == "diagonal":
        return np.diag(squares(np.eye(size)))
    if strategy == "kfac":
        return np.kron(S, A)
    assert strategy == "ekfac"
    basis = np.kron(eigenbasis(S, blocks), eigenbasis(A, blocks))
    return (basis * squares(basis)) @ basis.T


def dense_precondition(strategy: str, fisher: np.ndarray, gradient: np.ndarray):
    """(G + λI)⁻¹ ∇f with λ = 0.1 · mean eigenvalue (= trace / size), and λ. `identity` is neither solved nor damped."""
    if strategy == "identity":
        return gradient, 0.0
    damping = DAMPING_SCALE * np.trace(fisher) / len(fisher)
    solved = np.linalg.solve(fisher + damping * np.eye(len(fisher)), gradient.reshape(-1, fisher.shape[0]).T).T
    return solved.reshape(gradient.shape), damping


def squares_of(gradients: np.ndarray, weights=None):
    """mean_n (vec(G_n) · B)², for gradients [N, O, Ī]; weights replace the 1/N of the mean."""
    rows = gradients.reshape(len(gradients), -1)
    weights = np.full(len(rows), 1 / len(rows)) if weights is None else weights
    return lambda basis: weights @ (rows @ basis) ** 2


# ---------------------------------------------------------------------------------------------------------------------
# kronfluence
# ---------------------------------------------------------------------------------------------------------------------


class LanguageModeling(Task):
    """Sums over tokens; the measurement is f = log p(completion | prompt); padding is masked everywhere."""

    def __init__(self, names):
        self.names = names

    def compute_train_loss(self, batch, model, sample=False):
        assert not sample, "the references use the empirical Fisher"
        return self._losses(batch, model)

    def compute_measurement(self, batch, model):
        return -self._losses(batch, model)

    def _losses(self, batch, model):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        flat = logits[:, :-1].reshape(-1, logits.shape[-1])
        return F.cross_entropy(flat, batch["labels"][:, 1:].reshape(-1), ignore_index=-100, reduction="sum")

    def get_influence_tracked_modules(self):
        return self.names

    def get_attention_mask(self, batch):
        return batch["attention_mask"]


def right_padded(examples):
    """(tokens, labels) pairs → a batch; labels −100 where nothing is predicted."""
    longest = max(len(tokens) for tokens, _ in examples)

    def pad(values, fill):
        return values + [fill] * (longest - len(values))

    return {
        "input_ids": torch.tensor([pad(tokens, 5) for tokens, _ in examples]),
        "labels": torch.tensor([pad(labels, -100) for _, labels in examples]),
        "attention_mask": torch.tensor([pad([1] * len(tokens), 0) for tokens, _ in examples]),
    }


def linear_from_conv1d(model: nn.Module) -> None:
    """kronfluence tracks nn.Linear only and leaves Conv1D out silently: put an equal nn.Linear in its place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(module.nx, module.nf).to(module.weight.dtype)
            linear.weight.data.copy_(module.weight.data.T)
            linear.bias.data.copy_(module.bias.data)
            model.set_submodule(name, linear)


def kronfluence_run(folder: Path, layers: list, inputs: Inputs, strategy: str, dtype: torch.dtype):
    """Scores [L, Q, N] as kronfluence gives them, and its A and S."""
    model = load(folder, dtype)
    linear_from_conv1d(model)
    task = LanguageModeling([layer.name for layer in layers])
    documents = [(tokens, tokens) for tokens in inputs.documents]
    queries = [(p + c, [-100] * len(p) + c) for p, c in inputs.queries]
    with tempfile.TemporaryDirectory() as output:
        model = prepare_model(model, task)
        analyzer = Analyzer("references", model, task, cpu=True, output_dir=output, disable_tqdm=True)
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=right_padded))
        factor_args = FactorArguments(
            strategy=strategy,
            use_empirical_fisher=True,
            activation_covariance_dtype=dtype,
            gradient_covariance_dtype=dtype,
            per_sample_gradient_dtype=dtype,
            lambda_dtype=dtype,
        )
        analyzer.fit_all_factors("factors", documents, per_device_batch_size=5, factor_args=factor_args)
        score_args = ScoreArguments(
            damping_factor=None,  # 0.1 · mean(Λ), per layer
            compute_per_module_scores=True,
            per_sample_gradient_dtype=dtype,
            precondition_dtype=dtype,
            score_dtype=dtype,
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            query_dataset=queries,
            train_dataset=documents,
            per_device_query_batch_size=3,
            per_device_train_batch_size=7,
            score_args=score_args,
        )
        scores = analyzer.load_pairwise_scores("scores")
        covariances = analyzer.load_covariance_matrices("factors") if strategy in ("ekfac", "kfac") else None
    return np.stack([scores[layer.name].double().numpy() for layer in layers]), covariances


# ---------------------------------------------------------------------------------------------------------------------
# Putting a reference together
# ---------------------------------------------------------------------------------------------------------------------


def make(name: str, out: Path) -> None:
    folder = out / name / "model"
    save_checkpoint(name, folder)
    inputs = random_inputs(name, CONFIGS[name])
    tensors, agreement = {}, {}

    with upcasts_to_float64():
        model = load(folder, torch.float64)
        layers = layers_of(model)
        documents = [document_trace(model, layers, tokens) for tokens in inputs.documents]
        queries = [query_gradient(model, layers, *query) for query in inputs.queries]

    # Forward pass
    longest = int(np.argmax([len(tokens) for tokens in inputs.documents]))
    logits_of = [0 if longest != 0 else 1, longest]
    tensors["losses"] = np.array([loss for _, loss, _, _ in documents])
    tensors["measurements"] = np.array([f for f, _ in queries])
    as_it_is = load(folder, torch.float32)
    for n in logits_of:
        tensors[f"logits.{n}"] = documents[n][0].logits.detach().numpy()
        with torch.no_grad():
            float32 = as_it_is(torch.tensor([inputs.documents[n]])).logits[0].double().numpy()
        agreement[f"logits.{n}: transformers in float32"] = compare(float32, tensors[f"logits.{n}"])
    assert all(error["relativeError"] < 1e-5 for error in agreement.values()), agreement

    # Gradients
    G = {layer.name: np.stack([weights[layer.name] for _, _, weights, _ in documents]) for layer in layers}  # [N, O, Ī]
    Gq = {layer.name: np.stack([weights[layer.name] for _, weights in queries]) for layer in layers}  # [Q, O, Ī]
    for layer in layers:
        for n in range(GRADIENTS_OF_DOCUMENTS):
            tensors[f"gradient.document.{n}.{layer.name}"] = G[layer.name][n]
        for q in range(GRADIENTS_OF_QUERIES):
            tensors[f"gradient.query.{q}.{layer.name}"] = Gq[layer.name][q]
    squares = np.stack([(G[layer.name] ** 2).sum((1, 2)) for layer in layers])
    tensors["squaredNorms"] = squares  # [L, N]

    # Empirical factors and scores, dense
    described, dense = [], {key: [] for key in (*STRATEGIES, "ekfac-blocks2")}
    for layer in layers:
        tokens = sum(len(document) for document in inputs.documents)
        A = sum(trace.inputs(layer).T @ trace.inputs(layer) for trace, _, _, _ in documents) / tokens
        S = sum(outputs[layer.name].T @ outputs[layer.name] for _, _, _, outputs in documents) / tokens
        tensors[f"A.{layer.name}"], tensors[f"S.{layer.name}"] = A, S
        damping = {}
        for key, scores in dense.items():
            strategy, _, blocks = key.partition("-blocks")
            fisher = dense_fisher(strategy, A, S, squares_of(G[layer.name]), int(blocks or 1))
            preconditioned, damping[key] = dense_precondition(strategy, fisher, Gq[layer.name])
            scores.append(-np.einsum("qoi,noi->qn", preconditioned, G[layer.name]))
            if key == "ekfac":
                tensors[f"preconditioned.query.0.{layer.name}"] = preconditioned[0]
        described.append({**vars(layer), "damping": damping})
    for key, scores in dense.items():
        tensors[f"scores.dense.{key}"] = np.stack(scores)

    # kronfluence
    for strategy in STRATEGIES:
        for label, dtype in (("kronfluence", torch.float64), ("kronfluence-f32", torch.float32)):
            with upcasts_to_float64() if dtype == torch.float64 else contextlib.nullcontext():
                raw, covariances = kronfluence_run(folder, layers, inputs, strategy, dtype)
            scores = -raw  # its score is ∇fᵀ (G+λI)⁻¹ ∇L, influence is minus that (docs/method.md §1)
            tensors[f"scores.{label}.{strategy}"] = scores
            for track in ("mlp", "all"):
                tracked = [l for l, layer in enumerate(layers) if track == "all" or layer.part == track]
                found = compare(scores[tracked].sum(0), tensors[f"scores.dense.{strategy}"][tracked].sum(0))
                agreement[f"scores.{label}.{strategy}, {track}"] = found
                bound = 1e-9 if dtype == torch.float64 else 1e-3
                assert found["relativeError"] < bound, (name, label, strategy, track, found)
            if covariances is not None and dtype == torch.float64:
                for layer in layers:
                    for letter, factor in (("A", "activation"), ("S", "gradient")):
                        matrix = covariances[f"{factor}_covariance"][layer.name].numpy()
                        count = covariances[f"num_{factor}_covariance_processed"][layer.name].item()
                        assert count == tokens
                        assert np.allclose(matrix / count, tensors[f"{letter}.{layer.name}"], rtol=1e-9)

    extra = {}
    if name == "micro":
        with upcasts_to_float64():
            extra["exact"] = exact_gauss_newton(model, layers, inputs, G, Gq, tensors)
    if name == "llama":
        extra["ropes"] = rope_logits(folder, inputs.documents[longest], tensors)

    contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(contiguous, out / name / "reference.safetensors")
    write_json(
        out / name / "reference.json",
        {
            "documents": inputs.documents,
            "queries": [{"id": f"q{q}", "prompt": p, "completion": c} for q, (p, c) in enumerate(inputs.queries)],
            "layers": described,
            "logitsOf": logits_of,
            "agreement": agreement,
            **extra,
        },
    )
    print(name, json.dumps(agreement, indent=1), json.dumps(extra.get("exact", {}), indent=1))


def rope_logits(folder: Path, tokens: list, tensors: dict) -> dict:
    """Logits of one document under scaled RoPE, by transformers in float32 as it is; the weights are `llama`'s."""
    for key, changes in ROPES.items():
        config = AutoConfig.from_pretrained(folder, **changes)
        model = AutoModelForCausalLM.from_pretrained(folder, config=config, attn_implementation="eager").eval()
        with torch.no_grad():
            tensors[f"rope.{key}.logits"] = model(torch.tensor([tokens])).logits[0].numpy()
    return ROPES


def exact_gauss_newton(model, layers, inputs, G, Gq, tensors) -> dict:
    """The Gauss-Newton matrix as the true Fisher, exactly, and EK-FAC from exact expectations.

    Given the text, the labels ŷ_t of different positions are independent and E[∇ log p(ŷ_t)] = 0. So for anything
    quadratic in the pseudo-gradient Σ_t g(t, ŷ_t) the cross terms vanish: E = Σ_t Σ_v p_t(v) g(t, v)², a finite sum.
    """
    count, tokens = len(inputs.documents), sum(len(document) for document in inputs.documents)
    rows, row_weights = [], []  # of E over documents and labels: Σ_rows weight · g gᵀ
    S = {layer.name: 0.0 for layer in layers}
    for document in inputs.documents:
        found, weights = label_gradients(model, layers, document)
        rows += [np.concatenate([g[layer.name].ravel() for layer in layers]) for g, _ in found]
        row_weights += [p / count for p in weights]
        for layer in layers:
            S[layer.name] += sum(p * d[layer.name].T @ d[layer.name] for (_, d), p in zip(found, weights)) / tokens
    rows, row_weights = np.stack(rows), np.array(row_weights)
    check_by_enumeration(model, layers, inputs.documents)
    gauss_newton = (rows * row_weights[:, None]).T @ rows

    starts = np.cumsum([0] + [layer.outputs * (layer.inputs + layer.bias) for layer in layers])
    spans = [slice(start, end) for start, end in zip(starts, starts[1:])]
    damping = {layer.name: DAMPING_SCALE * np.diag(gauss_newton)[span].mean() for layer, span in zip(layers, spans)}
    tracked = {
        track: np.concatenate([np.arange(s.start, s.stop) for l, s in zip(layers, spans) if track in ("all", l.part)])
        for track in ("mlp", "all")
    }
    one = {track: float(DAMPING_SCALE * np.diag(gauss_newton)[where].mean()) for track, where in tracked.items()}
    per_parameter = np.concatenate([np.full(s.stop - s.start, damping[l.name]) for l, s in zip(layers, spans)])
    documents = np.hstack([G[layer.name].reshape(count, -1) for layer in layers])
    queries = np.hstack([Gq[layer.name].reshape(len(inputs.queries), -1) for layer in layers])

    # Per layer: the exact diagonal block, and what the strategies make of it, all with the layer's own λ
    per_layer = {key: [] for key in ("block", *STRATEGIES)}
    for layer, span in zip(layers, spans):
        A, S_l = tensors[f"A.{layer.name}"], S[layer.name]  # ā does not depend on the labels
        tensors[f"exact.S.{layer.name}"] = S_l
        shape = (-1, layer.outputs, layer.inputs + layer.bias)
        for key, scores in per_layer.items():
            if key == "block":
                fisher = gauss_newton[span, span]
            else:
                fisher = dense_fisher(key, A, S_l, squares_of(rows[:, span], row_weights))
            preconditioned, found = dense_precondition(key, fisher, queries[:, span].reshape(shape))
            assert key in ("kfac", "identity") or np.isclose(found, damping[layer.name])
            scores.append(-preconditioned.reshape(len(queries), -1) @ documents[:, span].T)
            if key == "ekfac":
                tensors[f"exact.preconditioned.query.0.{layer.name}"] = preconditioned[0]
    for key, scores in per_layer.items():
        tensors[f"exact.scores.{key}"] = np.stack(scores)

    distances = {}
    for track, where in tracked.items():
        matrix = gauss_newton[np.ix_(where, where)]
        for key, diagonal in (("full", per_parameter[where]), ("full-one-damping", np.full(len(where), one[track]))):
            solved = np.linalg.solve(matrix + np.diag(diagonal), queries[:, where].T).T
            tensors[f"exact.scores.{key}.{track}"] = -solved @ documents[:, where].T
        for key in per_layer:
            chosen = [l for l, layer in enumerate(layers) if track in ("all", layer.part)]
            found = tensors[f"exact.scores.{key}"][chosen].sum(0)
            distances[f"{key}, {track}"] = compare(found, tensors[f"exact.scores.full.{track}"])
    damping = {key: float(value) for key, value in damping.items()}
    return {"dampingOfLayers": damping, "dampingOne": one, "distanceToFull": distances}


def label_gradients(model, layers, document):
    """For every predicting position t and label v: (∂(−log p_t(v))/∂W̄, ∂/∂y) of every layer, and the weight p_t(v)."""
    found, weights = [], []
    trace = Trace(model, layers, document)
    logs = F.log_softmax(trace.logits, dim=-1)
    for t, v in itertools.product(range(len(document) - 1), range(logs.shape[1])):
        found.append(trace.gradients(-logs[t, v]))
        weights.append(math.exp(logs[t, v].item()))
    return found, weights


def check_by_enumeration(model, layers, documents) -> None:
    """E[ĜĜᵀ] over all label sequences of a short document is the sum over positions and labels."""
    document = next(d for d in documents if len(d) == 3)
    found, weights = label_gradients(model, layers, document)
    flat = np.stack([np.concatenate([g[layer.name].ravel() for layer in layers]) for g, _ in found])
    labels = len(found) // 2
    whole = np.stack([flat[v] + flat[labels + w] for v in range(labels) for w in range(labels)])
    chance = np.array([weights[v] * weights[labels + w] for v in range(labels) for w in range(labels)])
    assert np.allclose((whole * chance[:, None]).T @ whole, (flat * np.array(weights)[:, None]).T @ flat, atol=1e-12)


def compare(found: np.ndarray, wanted: np.ndarray) -> dict:
    """1 − Pearson's r and ‖found − wanted‖ / ‖wanted‖, over all entries, two digits."""
    pearson = np.corrcoef(found.ravel(), wanted.ravel())[0, 1]  # itself exact to some 1e-15
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    return {"oneMinusPearson": float(f"{max(0.0, 1 - pearson):.1e}"), "relativeError": float(f"{error:.1e}")}


def write_json(path: Path, value) -> None:
    """Indented, but lists of numbers on one line."""
    lists = []

    def shorten(x):
        if isinstance(x, list) and all(isinstance(y, (int, float)) for y in x):
            lists.append(json.dumps(x))
            return f"@list{len(lists) - 1}@"
        if isinstance(x, list):
            return [shorten(y) for y in x]
        return {k: shorten(y) for k, y in x.items()} if isinstance(x, dict) else x

    text = json.dumps(shorten(value), indent=2, ensure_ascii=False)
    for n, line in enumerate(lists):
        text = text.replace(f'"@list{n}@"', line)
    path.write_text(text + "\n")


def check(committed: Path, made: Path) -> None:
    """Raises where a tensor of the committed references differs from the new one by more than rounding."""
    for path in sorted(made.rglob("*.safetensors")):
        new, old = load_file(path), load_file(committed / path.relative_to(made))
        assert new.keys() == old.keys(), path
        for key, value in new.items():
            # float32 runs round differently on another processor; their sums over layers stay within 1e-3
            tolerance = 1e-3 if "f32" in key or "rope" in key else 1e-7
            error = np.linalg.norm(value - old[key]) / max(np.linalg.norm(old[key]), 1e-30)
            assert error < tolerance, f"{path.relative_to(made)}: {key} is off by {error:.1e}"
    for path in sorted(made.rglob("config.json")):
        assert path.read_text() == (committed / path.relative_to(made)).read_text(), path
    print("the committed references are what this script makes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed references, write nothing")
    parser.add_argument("--only", choices=list(CONFIGS), help="make one of them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) if arguments.check else here
        for each in [arguments.only] if arguments.only else CONFIGS:
            make(each, target)
        if arguments.check:
            check(here, target)
