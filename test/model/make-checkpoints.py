"""Writes tiny random checkpoints of every supported variant and what `transformers` computes from them.

    python make-checkpoints.py [FOLDER]        (default: fixtures/, beside this file)

Needs torch, transformers, safetensors and tokenizers; the outputs here were made with torch 2.15, transformers 5.23
and tokenizers as that pulls it in. Each folder gets config.json, weights and expected.json: token ids of two sequences
of unequal length, the logits of some positions of each (alone, no padding; f32 weights, computed in float64), and the
summed loss. Those of GRADIENTS also get gradients.safetensors: the gradient of the shorter sequence's loss in each linear
layer, float32, the bias column last; expected.json then has the squared norms of both. Tokenizers get the ids of nasty
strings.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
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



def other(name):
    """A family by the names of its classes."""
    config = getattr(transformers, {"Gemma3": "Gemma3Text"}.get(name, name) + "Config")
    return family(lambda **kw: config(**(dict(pad_token_id=0) | kw)), getattr(transformers, name + "ForCausalLM"))


def neox(**kw):
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**(dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=0, eos_token_id=0) | kw)))


olmo2, qwen3, gemma2, gemma3, phi3, cohere, cohere2, mixtral, qwen3_moe = (other(name) for name in (
    "Olmo2", "Qwen3", "Gemma2", "Gemma3", "Phi3", "Cohere", "Cohere2", "Mixtral", "Qwen3Moe"))

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
    "gpt-neox": (neox(), {}),
    # As older versions store it: another name of the head, buffers, rotary_pct and rotary_emb_base.
    "gpt-neox-serial-old": (neox(use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new", rope_parameters=dict(
        rope_type="linear", factor=3.0, rope_theta=500.0, partial_rotary_factor=0.5)), dict(
            buffers=True, rename={"lm_head.weight": "embed_out.weight"}, old_spelling=True)),
    "olmo2": (olmo2(num_attention_heads=4, num_key_value_heads=2), {}),
    "olmo2-yarn": (olmo2(head_dim=32, attention_bias=True, rope_parameters=YARN | dict(original_max_position_embeddings=16)),
                   dict(length=200)),
    "qwen3": (qwen3(head_dim=12), {}),
    "qwen3-window": (qwen3(head_dim=8, attention_bias=True, use_sliding_window=True, sliding_window=5, max_window_layers=1,
                           tie_word_embeddings=True), dict(drop=["layer_types"])),
    "gemma2": (gemma2(head_dim=10, query_pre_attn_scalar=24, sliding_window=5, num_hidden_layers=3,
                      attn_logit_softcapping=2.0, final_logit_softcapping=3.0), {}),
    "gemma2-uncapped-old": (gemma2(head_dim=8, sliding_window=5, attn_logit_softcapping=None, final_logit_softcapping=None,
                                   attention_bias=True, rope_parameters=dict(rope_type="default", rope_theta=300.0)),
                            dict(old_spelling=True, drop=["layer_types"])),
    "gemma3": (gemma3(head_dim=10, query_pre_attn_scalar=24, sliding_window=5, num_hidden_layers=4, rope_parameters=dict(
        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e5), sliding_attention=dict(rope_type="default", rope_theta=100.0)),
        layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"]), dict(length=150)),
    "gemma3-old": (gemma3(head_dim=8, sliding_window=5, num_hidden_layers=3, sliding_window_pattern=2, final_logit_softcapping=4.0,
                          rope_theta=2e4, rope_local_base_freq=50.0, rope_scaling=dict(rope_type="linear", factor=2.0)), dict(
        drop=["layer_types", "rope_parameters", "_sliding_window_pattern"], restore=dict(
            sliding_window_pattern=2, rope_theta=2e4, rope_local_base_freq=50.0, rope_scaling=dict(rope_type="linear", factor=2.0)))),
    "phi3": (phi3(num_attention_heads=4, num_key_value_heads=2, sliding_window=6), {}),
    "phi3-su": (phi3(hidden_size=32, original_max_position_embeddings=64, rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, partial_rotary_factor=0.5, short_factor=[1.0, 1.3, 1.6, 2.0],
        long_factor=[2.0, 3.0, 4.0, 5.0])), dict(length=60, old_spelling=True, su=True)),
    "cohere": (cohere(num_attention_heads=4, num_key_value_heads=2, use_qk_norm=True, logit_scale=0.3), {}),
    "cohere-plain": (cohere(attention_bias=True, tie_word_embeddings=False), dict(length=150)),
    "cohere2": (cohere2(num_attention_heads=2, sliding_window=5, num_hidden_layers=4), {}),
    "mixtral": (mixtral(num_local_experts=4), {}),
    "mixtral-one": (mixtral(num_local_experts=3, num_experts_per_tok=1, sliding_window=5, head_dim=6), {}),
    "qwen3-moe": (qwen3_moe(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, mlp_only_layers=[0]), {}),
    "qwen3-moe-normalized": (qwen3_moe(head_dim=8, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=12,
                                       norm_topk_prob=True, use_sliding_window=True, sliding_window=5), {}),
    # One sequence beyond the original context, one within.
    "phi3-long": (phi3(original_max_position_embeddings=64, rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, short_factor=[1.0, 1.1, 1.3, 1.6], long_factor=[1.5, 3.0, 8.0, 20.0])), dict(length=100)),
}

# Of these, gradients too: everything from GPT-NeoX on (but what may not be in one batch). Those of the others are in test/references.
GRADIENTS = [name for name in list(VARIANTS)[list(VARIANTS).index("gpt-neox"):] if name != "phi3-long"]


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


def load(folder):
    """As plain as it gets: no kernels of its own for attention, nor for experts."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                experts_implementation="eager").eval()


def rewrite_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=1) + "\n")


def old_spelling(config):
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if config["model_type"] == "gpt_neox":
        config["rotary_emb_base"] = config.pop("rope_theta")
        config["rotary_pct"] = config.pop("partial_rotary_factor")
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
    rename = options.get("rename", {})
    if strip or store_head or other_head or buffers or rename:
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
        if buffers and name.startswith("gpt-neox"):
            tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool)
            tensors["gpt_neox.layers.0.attention.masked_bias"] = torch.tensor(-1e9)
            tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(4)
        tensors = {rename.get(k, k): v for k, v in tensors.items()}
        if strip:
            tensors = {k.removeprefix(strip): v for k, v in tensors.items()}
        save_file(tensors, weights, metadata={"format": "pt"})
    # The reference sees the files as they are by now; only then is config.json respelled.
    reference = load(folder)
    if options.get("old"):
        rewrite_config(folder, old_spelling)
    rewrite_config(folder, lambda c: [c.pop(k, None) for k in ["transformers_version", "dtype", *options.get("drop", [])]])
    rewrite_config(folder, lambda c: c.update(options.get("restore", {})))
    if options.get("su"):  # its first name
        rewrite_config(folder, lambda c: c["rope_scaling"].update(type="su", rope_type="su"))
        rewrite_config(folder, lambda c: c["rope_scaling"].pop("rope_type"))
    if options.get("old") or options.get("drop") or options.get("restore"):
        respelled = load(folder)
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
        extra = {}
        if name in GRADIENTS:
            gradients = gradients_of(respelled, ids)
            extra["squaredNorms"] = {layer: float((g ** 2).sum()) for layer, g in gradients.items()}
            if n == sequences[-1]:
                save_file({layer: g.float().contiguous() for layer, g in gradients.items()}, folder / "gradients.safetensors")
        cases.append(extra | {
            "ids": ids[0].tolist(),
            "loss": loss,
            "positions": positions,
            "logits": [[float(f"{x:.9g}") for x in logits[p].tolist()] for p in positions],
        })
    (folder / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def gradients_of(model, ids):
    """∂loss/∂W of every linear layer of the blocks, [O, I] or with the bias column [O, I + 1]; experts each by name."""
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").backward()
    mixtral_names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    gradients = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        is_mixtral = model.config.model_type == "mixtral"
        spelled = name.replace(".mlp.", ".block_sparse_moe.") if is_mixtral else name
        if kind.endswith("TopKRouter"):
            gradients[spelled] = module.weight.grad
        elif kind.endswith("Experts"):
            for e in range(module.down_proj.shape[0]):
                gate, up = module.gate_up_proj.grad[e].chunk(2)
                for part, g in {"gate_proj": gate, "up_proj": up, "down_proj": module.down_proj.grad[e]}.items():
                    gradients[f"{spelled}.{e}.{mixtral_names[part] if is_mixtral else part}"] = g
        elif isinstance(module, torch.nn.Linear) and name != "lm_head":
            g = module.weight.grad
            gradients[name] = g if module.bias is None else torch.cat([g, module.bias.grad[:, None]], 1)
    return gradients


def write_rope():
    """cos and sin of each variant of Llama at positions far out, as transformers hands them to attention."""
    entries = {}
    for name, (model, options) in VARIANTS.items():
        if name in GRADIENTS or "dtype" in options:  # the cast of the model has rounded its frequencies too
            continue
        rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
        if rotary is None or name in ("llama-longrope", "llama-dynamic", "phi3-long"):
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
