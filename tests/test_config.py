import dataclasses

import pytest
import tiny

from latadj_jax.config import BertConfig, config_from_hf
from latadj_jax.hf_config import ConfigError

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
        max_positions=13,
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
    assert ours == config_from_hf(theirs.to_dict())


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
        ({"model_type": "albert"}, "model_type 'albert'"),
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
    hf = config.replace(max_positions=99, labels=("x", "y")).to_hf()
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
