"""Writes tiny random checkpoints of every supported variant and what `transformers` computes from them.

    python make-checkpoints.py [FOLDER]        (default: fixtures/, beside this file)

Needs torch, transformers, safetensors and tokenizers; the outputs here were made with torch 2.15, transformers 5.23
and tokenizers as that pulls it in. Each folder gets config.json, weights and expected.json: token ids of two sequences
of unequal length, the logits of some positions of each (alone, no padding; f32 weights, computed in float64), and the
summed loss. Tokenizers get the ids of nasty strings.
"""
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    AutoModelForCausalLM,
)

OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures"
VOCABULARY = 64


def gpt2(**kw):
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=40, n_embd=16, n_layer=2, n_head=2,
                                      bos_token_id=0, eos_token_id=0, **kw))


def family(config, model):
    def make(**kw):
        defaults = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
                        bos_token_id=0, eos_token_id=0)
        return model(config(**(defaults | kw)))
    return make


llama = family(LlamaConfig, LlamaForCausalLM)
mistral = family(MistralConfig, MistralForCausalLM)
qwen2 = family(Qwen2Config, Qwen2ForCausalLM)

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=500.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=1e4)

# name -> model, and how its files differ from what save_pretrained writes
VARIANTS = {
    "gpt2": (gpt2(), {}),
    "gpt2-bare-f16": (gpt2(n_inner=40, activation_function="gelu", layer_norm_epsilon=1e-3, scale_attn_weights=False),
                      dict(strip="transformer.", dtype=torch.float16, buffers=True)),
    "gpt2-untied": (gpt2(activation_function="gelu_pytorch_tanh", tie_word_embeddings=False), {}),
    "llama": (llama(num_key_value_heads=2), {}),
    "llama-tied-bare": (llama(tie_word_embeddings=True), dict(strip="model.", buffers=True)),
    "llama-tied-stored-bf16": (llama(tie_word_embeddings=True), dict(dtype=torch.bfloat16, store_head=True)),
    "llama-tied-but-different": (llama(tie_word_embeddings=True), dict(other_head=True)),
    "llama-gqa-sharded": (llama(num_attention_heads=4, num_key_value_heads=2, head_dim=6, attention_bias=True,
                                mlp_bias=True, rms_norm_eps=1e-2, hidden_act="gelu_pytorch_tanh"), dict(shard="8KB")),
    "llama-long-positions": (llama(max_position_embeddings=4096, head_dim=16), dict(length=600)),
    "llama-linear": (llama(rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=1e4)), {}),
    "llama-dynamic": (llama(rope_parameters=dict(rope_type="dynamic", factor=4.0, rope_theta=1e4)), {}),
    "llama-partial-ignored": (llama(rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)), {}),
    "llama-llama3": (llama(head_dim=32, rope_parameters=LLAMA3), {}),
    "llama-llama3-old-spelling": (llama(head_dim=32, rope_parameters=LLAMA3), dict(old_spelling=True)),
    "llama-yarn": (llama(head_dim=32, rope_parameters=YARN), {}),
    "llama-yarn-mscale": (llama(head_dim=32, rope_parameters=YARN | dict(
        mscale=1.0, mscale_all_dim=0.7, beta_fast=16.0, beta_slow=2.0, truncate=False)), {}),
    "llama-longrope": (llama(head_dim=8, rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=128, factor=2.0,
        short_factor=[1.0, 1.2, 1.5, 2.0], long_factor=[2.0, 3.0, 4.0, 5.0])), {}),
    "mistral": (mistral(sliding_window=5, rope_parameters=dict(rope_type="default", rope_theta=1e6)), {}),
    "mistral-no-window": (mistral(sliding_window=None), dict(old_spelling=True)),
    "qwen2-window-off": (qwen2(use_sliding_window=False, sliding_window=5, max_window_layers=0), dict(restore=dict(sliding_window=5), drop=["layer_types"])),
    "qwen2-window-on": (qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=1, num_hidden_layers=3), {}),
    "qwen2-window-old": (qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=1, num_hidden_layers=3,
                               tie_word_embeddings=True), dict(old_spelling=True, drop=["layer_types"])),
}


def randomize(model, generator):
    """Weights that make every part matter: norms not 1, biases not 0, projections large enough to be far from linear."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name or ".ln_" in name:
            p.data = 1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise
        elif name.endswith("bias"):
            p.data = 0.5 * noise
        elif "embed" in name or "wte" in name or "wpe" in name or "lm_head" in name:
            p.data = noise
        else:
            p.data = noise * 1.5 / p.shape[-1] ** 0.5
    model.tie_weights()


def rewrite_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=1) + "\n")


def old_spelling(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope


def write(name, model, seed, *, strip=None, dtype=None, shard=None, store_head=False, other_head=False, buffers=False,
          old_spelling=old_spelling, **options):
    folder = OUT / name
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    for extra in ["generation_config.json"]:
        (folder / extra).unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    if strip or store_head or other_head or buffers:
        tensors = load_file(weights)
        if store_head:
            tensors["lm_head.weight"] = model.get_output_embeddings().weight.detach().clone()
        if other_head:
            tensors["lm_head.weight"] = torch.randn(VOCABULARY, 16, generator=generator)
        if buffers and name.startswith("gpt2"):
            tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
            tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        if buffers and name.startswith("llama"):
            tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        if strip:
            tensors = {k.removeprefix(strip): v for k, v in tensors.items()}
        save_file(tensors, weights, metadata={"format": "pt"})
    # The reference sees the files as they are by now; only then is config.json respelled.
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if options.get("old"):
        rewrite_config(folder, old_spelling)
    rewrite_config(folder, lambda c: [c.pop(k, None) for k in ["transformers_version", "dtype", *options.get("drop", [])]])
    rewrite_config(folder, lambda c: c.update(options.get("restore", {})))
    if options.get("old") or options.get("drop") or options.get("restore"):
        respelled = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    else:
        respelled = reference
    respelled = respelled.double()
    length = options.get("length", 37)
    sequences, cases = [length, 11], []
    for n in sequences:
        ids = torch.randint(0, VOCABULARY, (1, n), generator=generator)
        with torch.no_grad():
            logits = respelled(ids).logits[0]
            same = reference.double()(ids).logits[0]
        assert torch.allclose(logits, same, rtol=1e-9, atol=1e-9), name
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum").item()
        positions = sorted({0, 1, 6, n // 2, n - 2, n - 1})
        cases.append({
            "ids": ids[0].tolist(),
            "loss": loss,
            "positions": positions,
            "logits": [[float(f"{x:.9g}") for x in logits[p].tolist()] for p in positions],
        })
    (folder / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def write_rope():
    """cos and sin of each variant at positions far out, as transformers hands them to attention."""
    entries = {}
    for name, (model, options) in VARIANTS.items():
        if "dtype" in options:  # the cast of the model has rounded its frequencies too
            continue
        rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
        if rotary is None or name in ("llama-longrope", "llama-dynamic"):
            continue
        positions = [0, 1, 1000, 8191, 131071]
        cos, sin = rotary(torch.zeros(1), torch.tensor([positions]))
        half = cos.shape[-1] // 2
        entries[name] = {"positions": positions, "cos": cos[0, :, :half].tolist(), "sin": sin[0, :, :half].tolist()}
    (OUT / "rope.json").write_text(json.dumps(entries, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, (name, (model, options)) in enumerate(VARIANTS.items()):
        options = dict(options)
        if options.pop("old_spelling", False):
            options["old"] = True
        write(name, model, seed, **options)
        print(name)
    write_rope()
