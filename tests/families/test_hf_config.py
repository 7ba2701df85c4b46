import dataclasses

import pytest
import tiny

from latadj_jax.errors import ConfigError
from latadj_jax.families.decoders.gpt2 import GPT2Config
from latadj_jax.families.decoders.llama import LlamaConfig
from latadj_jax.families.encoders.bert import BertConfig
from latadj_jax.families.registry import config_from_hf
from latadj_jax.families.rotary import Rope

HF = {
    "model_type": "bert",
    "vocab_size": 11,
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "intermediate_size": 17,
    "max_position_embeddings": 13,
    "type_vocab_size": 4,
    "hidden_act": "relu",
    "layer_norm_eps": 1e-6,
    "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": 0.4,
    "initializer_range": 0.05,
    "id2label": {"0": "bad", "1": "good", "2": "neither"},
}


def test_every_setting_is_read_from_its_own_key():
    expected = BertConfig(
        vocab_size=11,
        hidden_size=24,
        num_layers=5,
        num_heads=3,
        intermediate_size=17,
        position_rows=13,
        type_vocab_size=4,
        activation="relu",
        norm_eps=1e-6,
        hidden_dropout=0.3,
        attention_dropout=0.2,
        head_dropout=0.4,
        initializer_range=0.05,
        labels=("bad", "good", "neither"),
    )
    assert config_from_hf(HF) == expected


def test_optional_keys_have_hugging_face_defaults():
    """What a checkpoint leaves out must mean what it means to transformers."""
    transformers = pytest.importorskip("transformers")
    required = (*FAMILY_SIZES, "model_type")
    ours = config_from_hf({key: HF[key] for key in required})
    theirs = transformers.BertConfig(**{key: HF[key] for key in required})
    assert ours == without_ids(config_from_hf(theirs.to_dict()))


def without_ids(config):
    """A file that names no special tokens has none, for transformers' `generate`, too."""
    return config.replace(eos_tokens=(), pad_tokens=())


FAMILY_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


@pytest.mark.parametrize("key", FAMILY_SIZES)
@pytest.mark.parametrize("value", [None, 0, -1, 2.5, "8", True])
def test_impossible_sizes_are_refused_by_key(key, value):
    with pytest.raises(ConfigError, match=key):
        config_from_hf({**HF, key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "xlnet"}, "model_type 'xlnet'"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_size": 25}, "hidden_size 25.*num_attention_heads 3"),
        ({"hidden_act": "swish7"}, "hidden_act 'swish7'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf({**HF, **changes})


@pytest.mark.parametrize(("given", "read"), [(0.0, 0.0), (0.4, 0.4), (None, 0.3)])
def test_head_dropout_falls_back_to_the_hidden_one_only_when_unset(given, read):
    """0.0 is a choice, not a gap."""
    assert config_from_hf({**HF, "classifier_dropout": given}).head_dropout == read


def test_labels_are_in_the_order_of_their_ids():
    """Keys are strings in JSON, and "10" sorts before "2"."""
    names = {str(i): f"name-{i}" for i in reversed(range(12))}
    labels = config_from_hf({**HF, "id2label": names}).labels
    assert labels == tuple(f"name-{i}" for i in range(12))


def test_labels_without_names_are_numbered():
    unnamed = {key: value for key, value in HF.items() if key != "id2label"}
    assert config_from_hf(unnamed).labels == ("LABEL_0", "LABEL_1")
    assert config_from_hf({**unnamed, "num_labels": 3}).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_writing_and_reading_gives_the_same_config():
    config = config_from_hf(HF)
    assert config_from_hf(config.to_hf()) == config


def test_changes_and_unknown_keys_are_both_written():
    config = config_from_hf({**HF, "pad_token_id": 7, "summary": {"a": 1}})
    hf = config.replace(position_rows=99, labels=("x", "y")).to_hf()
    assert hf["pad_token_id"] == 7
    assert hf["summary"] == {"a": 1}
    assert hf["max_position_embeddings"] == 99
    assert hf["id2label"] == {"0": "x", "1": "y"}
    assert hf["label2id"] == {"x": 0, "y": 1}


def test_changed_labels_leave_no_contradicting_number_behind():
    """Old checkpoints carry `num_labels` too; transformers believes it before the names."""
    unnamed = {key: value for key, value in HF.items() if key != "id2label"}
    hf = config_from_hf({**unnamed, "num_labels": 3}).replace(labels=("x", "y")).to_hf()
    assert hf.get("num_labels", 2) == 2


def test_configs_are_frozen_and_are_keys():
    config = tiny.make_model().config
    assert {config: 1}[tiny.make_model().config] == 1
    assert config != config.replace(num_heads=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_heads = 2


# GPT-2 and Llama.

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_embd": 24,
    "n_layer": 5,
    "n_head": 3,
    "n_inner": 17,
    "n_positions": 13,
    "activation_function": "relu",
    "layer_norm_epsilon": 1e-6,
    "resid_pdrop": 0.3,
    "attn_pdrop": 0.2,
    "embd_pdrop": 0.4,
    "tie_word_embeddings": False,
    "initializer_range": 0.05,
    "id2label": {"0": "bad", "1": "good", "2": "neither"},
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "intermediate_size": 17,
    "max_position_embeddings": 13,
    "hidden_act": "gelu",
    "rms_norm_eps": 1e-4,
    "rope_parameters": {"rope_type": "linear", "rope_theta": 77.0, "factor": 3.0},
    "attention_bias": True,
    "mlp_bias": True,
    "attention_dropout": 0.2,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    "id2label": {"0": "bad", "1": "good", "2": "neither"},
}
COMMON = {
    "vocab_size": 11,
    "hidden_size": 24,
    "num_layers": 5,
    "intermediate_size": 17,
    "max_positions": 13,
    "initializer_range": 0.05,
    "labels": ("bad", "good", "neither"),
}


def test_every_setting_of_gpt2_is_read_from_its_own_key():
    assert config_from_hf(GPT2) == GPT2Config(
        **COMMON,
        num_heads=3,
        activation="relu",
        norm_eps=1e-6,
        hidden_dropout=0.3,
        attention_dropout=0.2,
        embedding_dropout=0.4,
        tied=False,
    )


def test_every_setting_of_llama_is_read_from_its_own_key():
    common = {key: value for key, value in COMMON.items() if key != "max_positions"}
    assert config_from_hf(LLAMA) == LlamaConfig(
        **common,
        trained_positions=COMMON["max_positions"],
        num_heads=6,
        num_kv_heads=3,
        head_size=10,
        activation="gelu",
        norm_eps=1e-4,
        rope=Rope(theta=77.0, kind="linear", factor=3.0),
        attention_bias=True,
        mlp_bias=True,
        attention_dropout=0.2,
        tied=True,
    )


GPT2_SIZES = ("vocab_size", "n_embd", "n_layer", "n_head")
LLAMA_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
# Heads that the number of key-value heads divides which each has by default.
WIDE = {**LLAMA, "hidden_size": 64, "num_attention_heads": 32}
SIZES = {"gpt2": (GPT2, GPT2_SIZES), "llama": (LLAMA, LLAMA_SIZES)} | {
    name: ({**WIDE, "model_type": name}, LLAMA_SIZES)
    for name in ("qwen2", "qwen3", "mistral", "smollm3", "gemma3_text")
}


@pytest.mark.parametrize("family", SIZES)
def test_optional_keys_of_causal_families_have_hugging_face_defaults(family):
    transformers = pytest.importorskip("transformers")
    hf, sizes = SIZES[family]
    hf = {"model_type": family, **{key: hf[key] for key in sizes}}
    theirs = transformers.AutoConfig.for_model(**hf).to_dict()
    assert config_from_hf(hf) == without_ids(config_from_hf(theirs))


@pytest.mark.parametrize(
    ("family", "key"), [(f, key) for f in ("gpt2", "llama") for key in SIZES[f][1]]
)
@pytest.mark.parametrize("value", [None, 0, 2.5, True])
def test_impossible_sizes_of_causal_families_are_refused_by_key(family, key, value):
    with pytest.raises(ConfigError, match=key):
        config_from_hf({**SIZES[family][0], key: value})


@pytest.mark.parametrize(
    ("hf", "message"),
    [
        ({**GPT2, "scale_attn_weights": "no"}, "scale_attn_weights must be true or false"),
        ({**GPT2, "pad_token_id": "x"}, r"pad_token_id must be an id or a list of ids.*\['x'\]"),
        ({**GPT2, "attn_pdrop": 2.0}, "attn_pdrop must be at most 1; it is 2.0"),
        ({**GPT2, "id2label": {"0": "a", "2": "b"}}, "id2label must map 0, 1, ... to names"),
        ({**GPT2, "activation_function": ["relu"]}, "activation_function.*is not implemented"),
        ({**GPT2, "add_cross_attention": True}, "add_cross_attention"),
        ({**GPT2, "n_embd": 25}, "25.*3"),
        ({**GPT2, "n_inner": 0}, "n_inner"),
        ({**GPT2, "tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({**LLAMA, "num_key_value_heads": 4}, "num_attention_heads 6.*num_key_value_heads 4"),
        ({**LLAMA, "head_dim": 5}, "head_dim 5 is odd"),
        ({**LLAMA, "attention_bias": 1}, "attention_bias must be true or false"),
        ({**LLAMA, "hidden_act": "swiglu"}, "hidden_act 'swiglu'"),
        ({**LLAMA, "model_type": "phi3"}, "'phi3' is not implemented; implemented are bert"),
        ({**LLAMA, "is_causal": False}, "is_causal is false: a decoder that looks ahead is not"),
    ],
)
def test_what_causal_families_do_not_implement_is_refused_by_name(hf, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(hf)


@pytest.mark.parametrize("unset", [{"n_inner": None}, {}])
def test_an_unset_inner_size_is_four_times_the_hidden_one(unset):
    hf = {key: value for key, value in GPT2.items() if key != "n_inner"}
    assert config_from_hf({**hf, **unset}).intermediate_size == 96


def test_unset_heads_are_those_of_plain_attention():
    config = config_from_hf({**LLAMA, "num_key_value_heads": None, "head_dim": None})
    assert (config.num_kv_heads, config.head_size) == (6, 4)


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("changes", "rope"),
    [
        ({}, Rope()),
        ({"rope_theta": 500.0}, Rope(theta=500.0)),
        ({"rope_theta": 500.0, "rope_scaling": None}, Rope(theta=500.0)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, Rope(kind="linear", factor=2.0)),
        (
            {"rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            Rope(500.0, "llama3", 8.0, 1.0, 4.0, 64),
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}},
            Rope(500.0, "llama3", 8.0, 1.0, 4.0, 64),
        ),
        ({"rope_parameters": {"rope_type": "default"}, "rope_theta": 500.0}, Rope(theta=500.0)),
    ],
)
def test_rope_is_read_as_transformers_4_and_5_write_it(changes, rope):
    """And what is written says it once: of two places transformers would read the other."""
    unset = {key: value for key, value in LLAMA.items() if key != "rope_parameters"}
    config = config_from_hf({**unset, **changes})
    assert config.rope == rope
    written = config.to_hf()
    assert not {"rope_theta", "rope_scaling"} & set(written)
    assert config_from_hf(written) == config


@pytest.mark.parametrize("hf", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_writing_and_reading_gives_the_same_causal_config(hf):
    config = config_from_hf({**hf, "summary_type": "cls_index"})
    assert config_from_hf(config.to_hf()) == config
    assert config.to_hf()["summary_type"] == "cls_index"


@pytest.mark.parametrize(
    ("value", "ids"), [(None, ()), (7, (7,)), ([7, 8], (7, 8)), (0, (0,)), ([], ())]
)
def test_ids_of_special_tokens_may_be_one_or_several(value, ids):
    assert config_from_hf({**GPT2, "eos_token_id": value}).eos_tokens == ids


def test_one_rate_sets_every_dropout_of_a_family():
    gpt2, llama = config_from_hf(GPT2).with_dropout(0.5), config_from_hf(LLAMA).with_dropout(0.5)
    assert {gpt2.hidden_dropout, gpt2.attention_dropout, gpt2.embedding_dropout} == {0.5}
    assert llama.attention_dropout == 0.5


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_null_is_the_fields_own_default(family):
    """As in ProstT5_fp16's tie_word_embeddings: null, and attention_dropout: null."""
    hf = tiny.hf_config(family)
    hf = {key: value for key, value in hf.items() if "relative_attention" not in key}
    config = config_from_hf(hf)
    fields = [f for f in dataclasses.fields(config) if f.metadata]
    optional = [f.metadata["hf"] for f in fields if f.default is not dataclasses.MISSING]
    assert len(optional) > 3
    # The one null that transformers takes for false: test_t5_files.py.
    optional = [key for key in optional if key != "scale_decoder_outputs"]
    for key in (*optional, "num_labels", "problem_type", "position_embedding_type"):
        unset = {name: value for name, value in hf.items() if name != key}
        expected, read = config_from_hf(unset), config_from_hf({**unset, key: None})
        assert read == expected, key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": 3}, "id2label must map 0, 1, ... to names; it is 3"),
        ({"eos_token_id": True}, "eos_token_id must be an id or a list of ids"),
    ],
)
def test_values_of_another_kind_are_one_sentence(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf({**GPT2, **changes})
