"""GGUF files: tiny ones written here, and the real SmolLM2 beside transformers' own reading."""

import re
import struct

import numpy as np
import pytest
from tiny_gguf import (
    FF,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    VOCAB,
    smollm2,
    tiny_tensors,
    write,
)

import latadj_jax
from latadj_jax.errors import GGUFError
from latadj_jax.pretrained import gguf as latadj_gguf
from latadj_jax.pretrained.gguf import read_config, read_tensors


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


def test_rows_of_queries_and_keys_go_back_to_halves():
    """Two heads of four rows: pairs (0, 1), (2, 3) come apart, within each head."""
    rows_OI = np.arange(8)[:, None] * np.ones((1, 3), int)
    halves_OI = latadj_gguf._halves(rows_OI, heads=2)
    assert halves_OI.tolist() == [[i] * 3 for i in (0, 2, 1, 3, 4, 6, 5, 7)]


def test_the_embedding_says_how_large_the_vocabulary_is(tmp_path, caplog):
    """A token was added and the key forgotten; or the rows were padded."""
    for said, tokens in ((VOCAB - 1, VOCAB), (None, VOCAB - 9)):
        metadata = {"llama.vocab_size": said, "tokenizer.ggml.tokens": [*map(str, range(tokens))]}
        file = write(tmp_path / f"m{tokens}", metadata, tiny_tensors())
        assert read_config(file)["vocab_size"] == VOCAB
        assert f"300, the rows of token_embd.weight, not {said or tokens}" in caplog.text
        caplog.clear()
    file = write(tmp_path / "m", {}, tiny_tensors())
    assert read_config(file)["vocab_size"] == VOCAB
    assert not caplog.records


def test_a_vocabulary_without_embeddings_is_refused(tmp_path):
    tokens = {"tokenizer.ggml.tokens": [*map(str, range(VOCAB + 1))]}
    with pytest.raises(GGUFError, match=r"m: token_embd\.weight has 300 rows for the 301 tokens"):
        read_config(write(tmp_path / "m", tokens, tiny_tensors()))


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


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def as_gguf(state):
    """A Llama's state_dict as llama.cpp's converter stores it: its names, its order of rows."""
    stored = {}
    for name, tensor in state.items():
        module, leaf = name.rsplit(".", 1)
        layer = re.match(r"model\.layers\.(\d+)\.", module)
        theirs = GGUF_NAMES[module[layer.end() :] if layer else module]
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs)
        array = tensor.numpy()
        array = llama_cpp_order(array, heads) if heads else array
        theirs = f"blk.{layer[1]}.{theirs}" if layer else theirs
        stored[theirs if leaf == "weight" else f"{theirs}.bias"] = array
    return stored


ALL_BIASES = r"self_attn\.._proj\.bias|mlp\..*\.bias"


@pytest.mark.parametrize(
    ("biased", "attention", "mlp"),
    [
        (ALL_BIASES, True, True),  # Granite Code
        (r"self_attn\.[qkv]_proj\.bias", True, False),  # o_proj then has one of zeros
        (r"layers\.0\.self_attn.*bias", True, False),  # the other layer, too
        (r"layers\.1\.mlp\.down_proj\.bias", False, True),
        ("nothing", False, False),
    ],
)
def test_biases_are_those_that_transformers_has(tmp_path, biased, attention, mlp):
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    metadata = {"llama.block_count": 2, "llama.context_length": 64}
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=FF, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=64,
        rms_norm_eps=1e-5, attention_bias=attention, mlp_bias=mlp, initializer_range=0.3,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_() if re.search(biased, name) else parameter.zero_()
    state = theirs.state_dict()
    stored = {n: t for n, t in state.items() if n.endswith("weight") or re.search(biased, n)}
    file = write(tmp_path / "m.gguf", metadata, as_gguf(stored))
    read = read_config(file)
    assert (read["attention_bias"], read["mlp_bias"]) == (attention, mlp)
    tensors = read_tensors(file)
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], tensor.numpy(), err_msg=name)
    if biased == ALL_BIASES:
        ids = np.arange(12, dtype=np.int32)[None] * 7
        with torch.no_grad():
            expected = theirs(torch.from_numpy(ids).long()).logits.numpy()
        logits = latadj_jax.apply(*latadj_jax.from_pretrained(file), {"input_ids": ids}).logits
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["blk.0.attn_norm.bias", "token_embd.bias", "output.bias"])
def test_biases_that_no_llama_has_are_refused(tmp_path, name):
    tensors = {**tiny_tensors(), name: np.ones(HIDDEN, "f")}
    file = write(tmp_path / "m", {}, tensors)
    assert not read_config(file)["attention_bias"]
    with pytest.raises(GGUFError, match=f"none of a plain Llama model's: {name}"):
        read_tensors(file)


def test_biases_that_do_not_fit_the_heads_are_named(tmp_path):
    tensors = {**tiny_tensors(), "blk.0.attn_q.bias": np.ones(30, "f")}
    with pytest.raises(GGUFError, match=r"q_proj\.bias \(30,\) cannot be cut into 4 heads"):
        read_tensors(write(tmp_path / "m", {}, tensors))


def test_real_smollm2_config():
    config = read_config(smollm2())
    expected = {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
                "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
                "intermediate_size": 1536, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
                "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": [2, 0, 4],
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
    if real:  # transformers takes the first alone
        assert theirs["config"].pop("eos_token_id") == config["eos_token_id"][0]
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


def test_positions_of_a_part_of_a_head_are_refused(tmp_path):
    file = write(tmp_path / "m", {"llama.rope.dimension_count": HEAD_DIM // 2}, tiny_tensors())
    with pytest.raises(GGUFError, match="of a part of a head are not implemented"):
        read_config(file)


def test_a_number_that_is_a_text_is_one_sentence(tmp_path):
    file = write(tmp_path / "m", {"llama.rope.freq_base": "big"}, tiny_tensors())
    with pytest.raises(GGUFError, match="has 'big' where a number is needed"):
        read_config(file)
