"""Gemma 3: published configs, its two kinds of layers, its norms and embeddings, refusals.

What it shares with every family is in the matrices of test_parity.py, test_causal.py and others.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_llama_kin import SMALL, compare_as_it_stands, of_config
from torch_models import hf_class

import latadj_jax
from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import config_from_hf
from latadj_jax.families.rotary import Rope

# config.json of published models, letter for letter but for what is made small.
GEMMA3 = {
    **SMALL,
    "_sliding_window_pattern": 2,
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": None,
    "head_dim": 12,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 12,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10.0,
    "rope_scaling": None,
    "rope_theta": 1000.0,
    "sliding_window": 5,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.55.0.dev0",
    "use_bidirectional_attention": False,
    "use_cache": True,
}
OLDER = {
    key: value
    for key, value in GEMMA3.items()
    if key not in ("layer_types", "_sliding_window_pattern", "use_bidirectional_attention")
}
PUBLISHED = {
    "gemma-3-270m": GEMMA3,
    "gemma-3-1b-it": {
        **OLDER,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 106],
        "sliding_window_pattern": 2,
        "transformers_version": "4.50.0.dev0",
    },
    # Its scalar is no head's width, and the layers that see the whole text are stretched.
    "medgemma-27b-text-it": {
        **OLDER,
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": 8,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window_pattern": 2,
    },
    "functiongemma-270m-it, as transformers 5 writes it": {
        **{key: value for key, value in GEMMA3.items() if not key.startswith("rope_")},
        "dtype": "bfloat16",
        "rope_parameters": {
            "full_attention": {"rope_theta": 1000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 10.0, "rope_type": "default"},
        },
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_as_they_stand(name, tmp_path):
    compare_as_it_stands(PUBLISHED[name], tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_kind_of_layer_has_its_window_and_its_rope(name):
    config = config_from_hf(PUBLISHED[name])
    stretched = {"kind": "linear", "factor": 8.0} if name.startswith("medgemma") else {}
    assert config.windows == (5, None)
    assert config.ropes == (Rope(theta=10.0), Rope(theta=1000.0, **stretched))
    assert config.max_positions == 32768  # a stretched rope is counted in already
    written = config.to_hf()
    assert config_from_hf(written) == config
    assert not {"rope_theta", "rope_scaling", "rope_local_base_freq"} & {*written}


def test_of_six_layers_the_last_sees_the_whole_text():
    hf = {key: value for key, value in OLDER.items() if "sliding_window" not in key}
    config = config_from_hf({**hf, "num_hidden_layers": 13})
    assert [n for n, window in enumerate(config.windows) if window is None] == [5, 11]
    assert config.windows[0] == 4096


def test_the_scale_of_embeddings_is_rounded_to_their_dtype(tmp_path):
    """As the checkpoints were trained: the root of 32 is 5.65625 in bfloat16."""
    torch = pytest.importorskip("torch")
    of_config(hf_class("lm"), GEMMA3).save_pretrained(tmp_path)
    theirs = hf_class("lm").from_pretrained(tmp_path, dtype=torch.bfloat16)
    model, params = latadj_jax.from_pretrained(tmp_path, dtype="bfloat16")
    ids = tiny.example(9, family="gemma3_text")["input_ids"][None]
    with torch.no_grad():
        expected = theirs.model.embed_tokens(torch.from_numpy(ids).long()).float().numpy()
    bound = model.module.bind({"params": params})
    found = bound.base.embed(jnp.asarray(ids), jnp.arange(9)[None], False)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(found, np.float32), expected)
    words = np.asarray(params["word"]["embedding"], np.float32)[ids]
    assert np.abs(expected - words * 5.65625).max() < 0.05 < np.abs(words).max()


def test_norms_stand_before_and_after_each_block():
    """With what comes after a block silenced, the block says nothing."""
    model, params = tiny.make("gemma3_text", "lm", num_hidden_layers=1)
    norms = {name for name in params["layer_0"] if name.endswith("_norm")}
    assert norms == {
        "attention_norm", "attention_out_norm", "ff_norm", "ff_out_norm", "query_norm", "key_norm",
    }  # fmt: skip
    silent = {"scale": -jnp.ones(32)}  # 1 is added
    layer = {**params["layer_0"], "attention_out_norm": silent, "ff_out_norm": silent}
    ids = tiny.example(9, family="gemma3_text")["input_ids"][None]
    out = latadj_jax.apply(model, {**params, "layer_0": layer}, {"input_ids": ids})
    x = np.asarray(params["word"]["embedding"])[ids] * np.sqrt(32)
    scale = 1 + np.asarray(params["final_norm"]["scale"])
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True)) * scale
    np.testing.assert_allclose(out.hidden, x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0 is not implemented"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0 is not implemented"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is set"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be an integer"),
        ({"sliding_window": None}, "there is no sliding_window"),
        ({"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern must be an"),
        ({"rope_parameters": {"full_attention": 3}}, "must hold an object for each layer type"),
        ({"rope_scaling": {"rope_type": "other"}}, "of type 'other' is not implemented"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(GEMMA3 | changes)
