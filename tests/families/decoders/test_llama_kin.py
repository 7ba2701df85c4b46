"""Qwen2, Qwen3, Mistral and SmolLM3: published configs, what is theirs of Llama's layer, refusals.

What they share with every family is in the matrices of test_parity.py, test_causal.py and others.
"""

import json

import numpy as np
import pytest
import tiny
from torch_models import assert_same_as_torch, hf_class, run_torch, with_drawn_weights

import latadj_jax
from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import FAMILIES, config_from_hf

# config.json of published models, letter for letter but for what is made small in SMALL.
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 24,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
}
SMOLLM3 = {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 12,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "layer_types": ["full_attention"] * 4,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0],
    "pad_token_id": 4,
    "pretraining_tp": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0.dev0",
    "use_cache": False,
    "use_sliding_window": False,
}
SMALL = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 8, "type": "yarn"}
PUBLISHED = {
    "Qwen2.5-0.5B-Instruct": QWEN2,
    # One key-value head for each query head; biases all the same.
    "Qwen1.5-0.5B": {**QWEN2, "num_key_value_heads": 4, "rope_theta": 1000000.0},
    "Qwen2.5-7B-Instruct": {
        **QWEN2,
        "max_window_layers": 28,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
    },
    "Qwen2.5-7B-Instruct, long texts": {**QWEN2, "rope_scaling": YARN},
    "DeepSeek-R1-Distill-Qwen-1.5B": {
        **QWEN2,
        "rope_theta": 10000,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "use_mrope": False,
    },
    "Qwen3-0.6B": QWEN3,
    "Qwen3-8B": {**QWEN3, "max_window_layers": 36, "tie_word_embeddings": False},
    "Qwen3-4B, long texts": {
        **QWEN3,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
    },
    # Their window is made small, so that a batch is longer.
    "Mistral-7B-v0.1": {**MISTRAL, "sliding_window": 5},
    "Mistral-7B-Instruct-v0.2": {**MISTRAL, "rope_theta": 1000000.0, "sliding_window": None},
    "Mistral-Nemo-Base-2407": {
        **MISTRAL,
        "head_dim": 12,
        "rope_theta": 1000000.0,
        "max_position_embeddings": 128000,
        "sliding_window": None,
    },
    "e5-mistral-7b-instruct": {
        **MISTRAL,
        "architectures": ["MistralModel"],
        "sliding_window": 5,
    },
    "SmolLM3-3B": {**SMOLLM3, "num_hidden_layers": 4},
    "SmolLM3-3B, its layers counted": {
        **{key: value for key, value in SMOLLM3.items() if key != "layer_types"},
        "num_hidden_layers": 4,
        "no_rope_layers": None,
        "no_rope_layer_interval": 2,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_as_they_stand(name, tmp_path):
    """Both ways: their config.json as it is on the hub, and as it is written here."""
    compare_as_it_stands(SMALL | PUBLISHED[name], tmp_path)


def compare_as_it_stands(config, tmp_path):
    """With transformers, of random weights beside that config.json."""
    family, (architecture,) = config["model_type"], config["architectures"]
    task = "lm" if architecture.endswith("ForCausalLM") else "features"
    auto, batch = hf_class(task), tiny.mixed_batch(family)[0]
    theirs = of_config(auto, config)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, params = latadj_jax.from_pretrained(tmp_path)
    assert model.task == task
    out = latadj_jax.apply(model, params, batch)
    assert_same_as_torch(out, run_torch(theirs, batch), batch, family)
    latadj_jax.save_pretrained(tmp_path / "ours", model, params)
    back, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_same_as_torch(out, run_torch(back, batch), batch, family)


def of_config(auto, config):
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(**config)
    return with_drawn_weights(auto.from_config(config, dtype=torch.float32))


def test_what_is_published_sees_the_whole_text_but_for_the_first_mistrals():
    """A sliding_window that use_sliding_window does not use is none."""
    for name, config in PUBLISHED.items():
        windows = config_from_hf(SMALL | config).windows
        early = name in ("Mistral-7B-v0.1", "e5-mistral-7b-instruct")
        assert set(windows) == {5 if early else None}, name


def test_biases_and_norms_are_where_each_family_has_them():
    found = {}
    for family in ("llama", "qwen2", "qwen3", "mistral", "smollm3"):
        _, params = tiny.make(family, "lm")
        layer = params["layer_0"]
        biased = {name for name, leaves in layer.items() if "bias" in leaves}
        found[family] = (biased, {name for name in layer if name.endswith("_norm")})
    blocks = {"attention_norm", "ff_norm"}
    assert found.pop("qwen2") == ({"query", "key", "value"}, blocks)
    assert found.pop("qwen3") == (set(), {*blocks, "query_norm", "key_norm"})
    assert set(map(str, found.values())) == {str((set(), blocks))}


@pytest.mark.parametrize(("family", "window"), [("mistral", 6), ("qwen2", 5)])
def test_a_layer_sees_its_window_and_no_further(family, window):
    """One windowed layer: the last token sees itself and `window` - 1 before it."""
    changes = {"max_window_layers": 0} if family == "qwen2" else {}
    model, params = tiny.make(family, "lm", num_hidden_layers=1, **changes)
    assert model.config.windows == (window,)
    ids = tiny.example(14, family=family)["input_ids"]

    def last_logits(ids):
        return np.asarray(latadj_jax.apply(model, params, {"input_ids": ids[None]}).logits)[0, -1]

    for back in range(1, 14):
        other = ids.copy()
        other[-1 - back] = (other[-1 - back] + 1) % tiny.VOCAB
        same = np.array_equal(last_logits(other), last_logits(ids))
        assert same == (back >= window), back


def test_what_is_removed_brings_nothing_nearer():
    """The first layer removes, the second sees by original positions: what lay beyond its window
    stays beyond it, though few word-vectors are left between."""
    model, params = tiny.make("mistral", "lm", num_hidden_layers=2)
    ids = tiny.example(14, family="mistral")["input_ids"]
    plan = model.replace(profile=latadj_jax.Profile((0.4, 1.0))).plan(1.0, 14, strategy="tail")

    def hidden(ids):
        return latadj_jax.apply(model, params, {"input_ids": ids[None]}, plan=plan)

    out = hidden(ids)
    assert out.positions[0].tolist() == [0, 1, 2, 3, 13]
    other = ids.copy()
    other[2] += 1  # beyond the last token's window in both layers
    np.testing.assert_array_equal(hidden(other).hidden[0, -1], out.hidden[0, -1])
    assert not np.allclose(hidden(other).hidden[0, 3], out.hidden[0, 3])


def test_long_prompts_are_read_in_blocks_that_leave_far_keys_out(tmp_path):
    """Three blocks of queries, the last of which see no key of the first; and read on from it."""
    sizes = {"max_position_embeddings": 700, "sliding_window": 100, "num_hidden_layers": 2}
    theirs = of_config(hf_class("lm"), tiny.hf_config("mistral", "lm", **sizes))
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(1, tiny.VOCAB, (1, 640)).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = run_torch(theirs, batch)
    assert_same_as_torch(latadj_jax.apply(model, params, batch), expected, batch, "mistral")
    prompt = {"input_ids": ids[:, :300]}
    logits = latadj_jax.continuation_logits(model, params, prompt, ids[:, 300:])
    np.testing.assert_allclose(logits, expected[2][:, 299:], rtol=0, atol=1e-4)


def test_the_work_of_a_windowed_layer_is_that_of_its_window():
    """32 wide, 4 heads of 12, 2 of keys, feed-forward 48: 16 word-vectors in, 11 out."""
    model, _ = tiny.make("mistral", "lm", num_hidden_layers=1)
    plan = model.plan(1.0, 16)
    assert plan.counts == (11,)
    expected = 32 * (48 + 2 * 24) * 16 + 48 * 16 * 6 + (48 * 6 + 32 * 48 + 32 * 3 * 48) * 11
    assert latadj_jax.macs(model, plan) == expected


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral", "smollm3"])
def test_writing_and_reading_gives_the_same_config(family):
    for hf in (tiny.hf_config(family), *(SMALL | c for c in PUBLISHED.values())):
        if hf["model_type"] == family:
            config = config_from_hf(hf)
            assert config_from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("hf", "message"),
    [
        ({**QWEN2, "layer_types": ["full_attention"]}, "has 1 entries; num_hidden_layers is 2"),
        ({**QWEN2, "layer_types": ["full_attention", "chunked_attention"]},
         "layer_types has 'chunked_attention', which is not implemented"),
        ({**QWEN2, "layer_types": ["sliding_attention"] * 2}, "there is no sliding_window"),
        ({**QWEN3, "use_sliding_window": "no"}, "use_sliding_window must be true or false"),
        ({**QWEN3, "use_sliding_window": True, "sliding_window": 0}, "sliding_window must be an"),
        ({**QWEN3, "max_window_layers": "all"}, "max_window_layers must be a number"),
        ({**QWEN3, "is_causal": False}, "is_causal is false"),
        ({**MISTRAL, "sliding_window": "long"}, "sliding_window must be an integer"),
        ({**SMOLLM3, "no_rope_layers": [1]}, "no_rope_layers has 1 entries"),
        ({**SMOLLM3, "no_rope_layers": [1, 2, 1, 1]}, "must be a list of 0 and 1"),
        ({**SMOLLM3, "no_rope_layers": None, "no_rope_layer_interval": 0}, "interval must be an"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(hf, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(SMALL | hf)


def test_all_of_them_are_one_module():
    names = ("llama", "qwen2", "qwen3", "mistral", "smollm3")
    assert len({FAMILIES[name].module for name in names}) == 1
