"""Promises 1 and 6: dense equals Hugging Face, on weights that it saved and on those saved here.

One line in `tiny.FAMILIES` brings a family into it.
"""

import json

import jax
import numpy as np
import pytest
import tiny
from torch_models import assert_same_as_torch, compare_both_ways, hf_class, run_torch

import latadj_jax
from latadj_jax.model.model import random_params

KINDS = [(family, task) for family in tiny.FAMILIES for task in tiny.TASKS[family]]
each_kind = pytest.mark.parametrize(("family", "task"), KINDS)
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 2.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.5}
# What a family's config can say, beyond what its line in FAMILIES says; all of it at once where
# one cannot hide another.
VARIANTS = {
    "gpt2 untied, n_inner unset": ("gpt2", {"tie_word_embeddings": False, "n_inner": None}),
    "gpt2 relu, other eps": (
        "gpt2",
        {"activation_function": "relu", "layer_norm_epsilon": 0.1, "n_positions": 16},
    ),
    "gpt2 attention scaled by its layer alone, quick gelu": (
        "gpt2",
        {
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "activation_function": "quick_gelu",
        },
    ),
    "llama tied, linear rope": ("llama", {"tie_word_embeddings": True, "rope_parameters": LINEAR}),
    "llama biases, llama3 rope": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3},
    ),
    "llama one group, head_dim unset": (
        "llama",
        {"num_key_value_heads": 1, "head_dim": None, "rms_norm_eps": 0.1},
    ),
    "llama without groups": ("llama", {"num_key_value_heads": None, "hidden_act": "gelu"}),
}


@each_kind
def test_dense_equals_hugging_face_and_back(family, task, tmp_path):
    """All paddings at once."""
    compare_both_ways(family, task, tmp_path, **tiny.changes_of(family, task))


@pytest.mark.parametrize(("family", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_dense_equals_hugging_face_whatever_the_config_says(family, changes, tmp_path):
    compare_both_ways(family, "lm", tmp_path, num_hidden_layers=2, **changes)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fresh_parameters_spread_as_those_of_hugging_face(family, tmp_path):
    task = "seq2seq" if family == "t5" else "classification"
    changes = {} if family == "t5" else {"initializer_range": 0.05}
    hf = hf_class(task, family)
    import torch
    import transformers

    torch.manual_seed(0)
    hf = transformers.AutoModelForSeq2SeqLM if family == "t5" else hf
    config = transformers.AutoConfig.for_model(**tiny.hf_config(family, task, **changes))
    theirs = hf.from_config(config)
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    ours = jax.tree.map(np.asarray, random_params(model, jax.random.key(0)))
    for (path, fresh), other in zip(
        jax.tree.leaves_with_path(ours), jax.tree.leaves(params), strict=True
    ):
        name = jax.tree_util.keystr(path)
        if family == "t5" and path[0].key in ("encoder_bias", "decoder_bias"):
            continue  # see `random_params`
        error = 1 / np.sqrt(fresh.size)  # of a mean of draws with standard deviation 1
        assert fresh.mean() == pytest.approx(other.mean(), abs=6 * error * fresh.std()), name
        assert fresh.std() == pytest.approx(other.std(), rel=6 * error), name


def test_what_a_config_says_of_other_things_survives(tmp_path):
    """Ids of special tokens, for one: generation stops by them."""
    back = compare_both_ways("llama", "lm", tmp_path, num_hidden_layers=1, eos_token_id=[7, 8])
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert back.config.eos_token_id == written["eos_token_id"] == [7, 8]
    assert back.config.pad_token_id == 0


def test_dense_equals_hugging_face_on_real_weights(minilm_folder):
    theirs = hf_class("features").from_pretrained(minilm_folder)
    model, params = latadj_jax.from_pretrained(minilm_folder, "features")
    ids = np.random.default_rng(0).integers(1000, 30000, (2, 24)).astype(np.int32)
    mask = (np.arange(24) < [[24], [13]]).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    out = latadj_jax.apply(model, params, batch)
    assert_same_as_torch(out, run_torch(theirs, batch), batch, "bert")
