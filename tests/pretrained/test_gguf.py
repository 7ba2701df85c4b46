"""GGUF files: tiny ones written here, and the real SmolLM2 beside transformers' own reading."""

import os
import struct
import sys

import numpy as np
import pytest
from tiny_gguf import (
    FF,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    VOCAB,
    byte_level,
    smollm2,
    tiny_tensors,
    write,
)

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained import gguf as latadj_gguf
from latadj_jax.pretrained.gguf import read_config, read_header, read_tensors


def test_config_holds_what_config_json_would(tmp_path):
    file = write(tmp_path / "m", {"tokenizer.ggml.bos_token_id": 7}, tiny_tensors())
    assert read_config(file) == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "intermediate_size": FF,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 7,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def test_config_follows_the_metadata(tmp_path):
    metadata = {
        "llama.attention.head_count_kv": None,  # as many as heads
        "llama.attention.key_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": None,  # then the number of tokens
        "tokenizer.ggml.tokens": ["a", "b", "c"],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
    }
    config = read_config(write(tmp_path / "m", metadata))
    assert (config["num_key_value_heads"], config["head_dim"]) == (HEADS, 16)
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (3, True)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (None, 2, 0)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"type": "none"}, {"rope_type": "default"}),
        ({"type": "none", "factor": 4.0}, {"rope_type": "default"}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),  # llama.cpp's default type
        (
            {"type": "yarn", "factor": 2.5, "original_context_length": 32},
            {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 32},
        ),
    ],
)
def test_rotary_scaling_is_passed_on_by_name(tmp_path, scaling, expected):
    metadata = {f"llama.rope.scaling.{key}": value for key, value in scaling.items()}
    file = write(tmp_path / "m", {"llama.rope.freq_base": 5e5, **metadata})
    assert read_config(file)["rope_parameters"] == {"rope_theta": 5e5, **expected}


def test_the_older_key_of_a_linear_rope_scaling_is_read_too(tmp_path):
    file = write(tmp_path / "m", {"llama.rope.scale_linear": 4.0})
    expected = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    assert read_config(file)["rope_parameters"] == expected


def llama3_divisors(factor, head_dim=64, theta=5e5):
    """What llama.cpp writes for Llama 3.1: one divisor per frequency, from its wavelength."""
    divisors = []
    for i in range(head_dim // 2):
        wavelength = 2 * np.pi * theta ** (2 * i / head_dim)
        if wavelength < 8192 / 4:
            divisors.append(1.0)
        elif wavelength > 8192 / 1:
            divisors.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def test_llama3_factors_are_recognised_and_others_refused(tmp_path):
    metadata = {"llama.rope.freq_base": 5e5, "llama.rope.dimension_count": 64}
    divisors = llama3_divisors(32.0)
    assert len(set(divisors)) > 3  # some frequencies lie between the two bounds
    file = write(tmp_path / "a", metadata, {"rope_freqs": divisors})
    assert read_config(file)["rope_parameters"] == {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert read_tensors(file) == {}  # it is no weight
    file = write(tmp_path / "b", metadata, {"rope_freqs": np.roll(divisors, 1)})
    with pytest.raises(GGUFError, match=r"rope_freqs\.weight are not Llama 3\.1's"):
        read_config(file)


def test_rows_of_queries_and_keys_go_back_to_halves():
    """Two heads of four rows: pairs (0, 1), (2, 3) come apart, within each head."""
    rows_OI = np.arange(8)[:, None] * np.ones((1, 3), int)
    halves_OI = latadj_gguf._halves(rows_OI, heads=2)
    assert halves_OI.tolist() == [[i] * 3 for i in (0, 2, 1, 3, 4, 6, 5, 7)]


def llama_cpp_order(weight_OI, heads):
    """The opposite way, row by row: row i of a head's first half goes to 2i, of its second 2i+1."""
    width = len(weight_OI) // heads
    mixed_OI = np.empty_like(weight_OI)
    for head in range(heads):
        for i in range(width):
            to = 2 * i if i < width // 2 else 2 * (i - width // 2) + 1
            mixed_OI[head * width + to] = weight_OI[head * width + i]
    return mixed_OI


@pytest.mark.parametrize(("kind", "error"), [("F32", 0), ("F16", 2e-3), ("BF16", 2e-2),
                                             ("Q8_0", 2e-2), ("Q4_1", 0.25)])  # fmt: skip
def test_tensors_come_back_by_torch_name(tmp_path, kind, error):
    tensors = tiny_tensors()
    stored = dict(tensors)
    stored["blk.0.attn_q"] = llama_cpp_order(tensors["blk.0.attn_q"], HEADS)
    stored["blk.0.attn_k"] = llama_cpp_order(tensors["blk.0.attn_k"], KV_HEADS)
    read = read_tensors(write(tmp_path / "m", {}, stored, kind))
    layer = "model.layers.0."
    expected = {
        "model.embed_tokens.weight": "token_embd",
        f"{layer}input_layernorm.weight": "blk.0.attn_norm",
        f"{layer}self_attn.q_proj.weight": "blk.0.attn_q",
        f"{layer}self_attn.k_proj.weight": "blk.0.attn_k",
        f"{layer}self_attn.v_proj.weight": "blk.0.attn_v",
        f"{layer}self_attn.o_proj.weight": "blk.0.attn_output",
        f"{layer}post_attention_layernorm.weight": "blk.0.ffn_norm",
        f"{layer}mlp.gate_proj.weight": "blk.0.ffn_gate",
        f"{layer}mlp.up_proj.weight": "blk.0.ffn_up",
        f"{layer}mlp.down_proj.weight": "blk.0.ffn_down",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    assert set(read) == set(expected)
    for name, ours in expected.items():
        assert read[name].dtype == np.float32
        assert type(read[name]) is np.ndarray
        assert read[name].flags.writeable  # a copy: the file may go
        np.testing.assert_allclose(read[name], tensors[ours], atol=error, err_msg=name)


@pytest.mark.parametrize(("ends", "expected"), [((2, 1), [2, 1]), ((2, 2), 2), ((None, 1), 1)])
def test_a_turn_of_a_chat_ends_a_text_too(tmp_path, ends, expected):
    names = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    metadata = {name: n for name, n in zip(names, ends, strict=True) if n is not None}
    config = read_config(write(tmp_path / "m", metadata))
    assert config["eos_token_id"] == expected


def test_real_smollm2_config():
    config = read_config(smollm2())
    expected = {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
                "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
                "intermediate_size": 1536, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
                "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
                "pad_token_id": 2}  # fmt: skip
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("real", [False, True], ids=["tiny", "SmolLM2"])
def test_files_are_read_as_transformers_reads_them(tmp_path, real):
    pytest.importorskip("torch", reason="transformers reads GGUF files with torch")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    tied = {name: array for name, array in tiny_tensors().items() if name != "output"}
    file = smollm2() if real else write(tmp_path / "m", {}, tied, "Q4_1")
    config, tensors = read_config(file), read_tensors(file)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config))
    theirs = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)
    assert set(theirs["tensors"]) == set(tensors)
    for name, tensor in theirs["tensors"].items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy(), err_msg=name)
        assert tensors[name].shape == tuple(model.state_dict()[name].shape)
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    for key, value in theirs["config"].items():
        if key in config:
            assert config[key] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"llama.embedding_length": None}, r"lacks the metadata key llama\.embedding_length"),
        ({"llama.block_count": 0}, r"llama\.block_count must be one number above 0; it is 0"),
        ({"llama.attention.head_count": [4, 2]}, r"head_count must be one number .* is \[4, 2\]"),
        ({"llama.vocab_size": None}, r"lacks the metadata key tokenizer\.ggml\.tokens"),
        ({"llama.expert_count": 8}, "a mixture of experts, which is not implemented"),
        (
            {"llama.attention.key_length": 16, "llama.rope.dimension_count": 8},
            "heads must have one width",
        ),
    ],
)
def test_configs_that_cannot_be_read(tmp_path, metadata, message):
    with pytest.raises(GGUFError, match=message):
        read_config(write(tmp_path / "m", metadata))


def test_another_architecture_is_named(tmp_path):
    file = write(tmp_path / "m", {}, architecture="qwen2")
    with pytest.raises(GGUFError, match="m holds architecture 'qwen2'; only 'llama' is read"):
        read_tensors(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m cannot be read .FileNotFoundError"),
        (b"", "m is no GGUF file, .*empty file"),
        (b"{}" * 20, "m is no GGUF file, .*magic invalid"),
        (b"GGUF\x09\x00\x00\x00" + bytes(16), "of a newer kind .*version 9"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "m is no GGUF file, or it is truncated"),
        (b"GGUF\x00\x00\x00\x03" + bytes(16), "m is big-endian; only little-endian"),
    ],
)
def test_files_that_are_no_gguf(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(GGUFError, match=message):
        read_config(tmp_path / "m")


def test_truncated_or_damaged_is_one_sentence(tmp_path):
    whole = write(tmp_path / "whole", byte_level(), tiny_tensors(), "Q8_0").read_bytes()
    lengths = (*range(5, 5000, 97), len(whole) // 2, len(whole) - 40)
    contents = [whole[:length] for length in lengths]
    key = b"tokenizer.ggml.token_type"
    length = whole.index(key) + len(key) + 8  # after the types of value and item, 4 bytes each
    contents.append(whole[:length] + b"\xff" * 7 + whole[length + 7 :])  # 2**56 numbers and more
    for content in contents:
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(GGUFError, match=r"m is no GGUF file, or it is truncated") as caught:
            read_config(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_a_file_is_parsed_once_until_it_changes(tmp_path):
    file = write(tmp_path / "m", {})
    os.utime(file, (0, 0))
    header = read_header(file)
    assert read_header(str(file)) is header
    write(file, {"llama.block_count": 2})  # as many bytes as before
    os.utime(file, (1, 1))
    assert read_config(file)["num_hidden_layers"] == 2


def test_queries_that_do_not_fit_the_heads_are_named(tmp_path):
    file = write(tmp_path / "m", {"llama.attention.head_count": 5}, tiny_tensors())
    with pytest.raises(GGUFError, match=r"q_proj\.weight \(32, 32\) cannot be cut into 5 heads"):
        read_tensors(file)


def test_unknown_tensors_are_listed(tmp_path):
    tensors = {**tiny_tensors(), "blk.0.ffn_gate_exps": np.ones((2, 32), "f"),
               "rope_factors_long": np.ones(4, "f")}  # fmt: skip
    with pytest.raises(GGUFError, match=r"none .*: blk\.0\.ffn_gate_exps\.weight, rope_factors_lo"):
        read_tensors(write(tmp_path / "m", {}, tensors))


def test_tensors_that_cannot_be_dequantized_are_named(tmp_path):
    file = write(tmp_path / "m", {}, {"output_norm": np.ones(HIDDEN, "f")})
    f32, i32 = (struct.pack("<IQI", 1, HIDDEN, kind) for kind in (0, 26))
    file.write_bytes(file.read_bytes().replace(f32, i32))
    with pytest.raises(GGUFError, match=r"output_norm\.weight cannot be read .NotImplementedError"):
        read_tensors(file)


def test_without_the_gguf_package_it_is_asked_for(tmp_path, monkeypatch):
    file = write(tmp_path / "m", {})
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(GGUFError, match=r"package gguf, .* pip install 'latadj_jax\[gguf\]'"):
        read_config(file)
