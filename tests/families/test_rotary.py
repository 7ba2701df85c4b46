"""Rotary positions: hand-made turns, transformers' frequencies, and what a config may say."""

import copy
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import config_from_hf
from latadj_jax.families.rotary import Rope, attention_factor, inverse_frequencies, rotate

ORIGINAL = "original_max_position_embeddings"
YARN_KEYS = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0 + i / 40 for i in range(32)],
    "long_factor": [2.0 + i / 4 for i in range(32)],
}
BY_TYPE = [DEFAULT, LINEAR, LLAMA3, DYNAMIC, YARN, LONGROPE]
each_type = pytest.mark.parametrize("rope", BY_TYPE, ids=lambda r: r["rope_type"])
# What else a config of heads of 64 and 128 positions may say, and where.
VARIANTS = {
    "nothing": {},
    "nulls": {"rope_scaling": None, "rope_parameters": None, "partial_rotary_factor": None},
    "no type": {"rope_parameters": {"rope_theta": 5e5}},
    "default by its older name": {"rope_scaling": {"type": "default"}, "rope_theta": 5e5},
    "both names, of which one counts": {"rope_scaling": {**LINEAR, "type": "yarn"}},
    "theta inside and beside": {"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 3.0},
    "theta inside, null beside": {"rope_parameters": {"rope_theta": 5e5}, "rope_theta": None},
    "scaling beside parameters": {"rope_scaling": LINEAR, "rope_parameters": {**YARN}},
    "no scaling beside parameters": {"rope_scaling": None, "rope_parameters": LINEAR},
    "partial by 1": {"rope_parameters": {**LINEAR, "partial_rotary_factor": 1.0}},
    "partial by 1, beside": {"rope_parameters": LINEAR, "partial_rotary_factor": 1},
    "factor an integer": {"rope_parameters": {**LINEAR, "factor": 2}},
    "dynamic has its own original": {"rope_parameters": {**DYNAMIC, ORIGINAL: 64}},
    "llama3 without original": {"rope_parameters": {**LLAMA3, ORIGINAL: ...}},
    "llama3, original beside": {"rope_parameters": LLAMA3, ORIGINAL: 32},
    "yarn without original": {"rope_parameters": {**YARN, ORIGINAL: ...}},
    "yarn, original beside": {"rope_parameters": YARN, ORIGINAL: 32},
    "yarn, original a float": {"rope_parameters": {**YARN, ORIGINAL: 64.0}},
    "yarn, factor null": {"rope_parameters": {**YARN, "factor": None}},
    "yarn, all null": {"rope_parameters": {**YARN, **dict.fromkeys(YARN_KEYS)}},
    "yarn, all zero": {"rope_parameters": {**YARN, **dict.fromkeys(YARN_KEYS[1:], 0.0)}},
    "yarn, attention factor": {"rope_parameters": {**YARN, "attention_factor": 0.7, "mscale": 0.5}},
    "yarn, betas": {"rope_parameters": {**YARN, "beta_fast": 8, "beta_slow": 0.3}},
    "yarn, both mscales": {"rope_parameters": {**YARN, "mscale": 0.9, "mscale_all_dim": 0.4}},
    "yarn, one mscale": {"rope_parameters": {**YARN, "mscale": 0.9}},
    "yarn, truncate": {"rope_parameters": {**YARN, "truncate": True}},
    "yarn, no truncate": {"rope_parameters": {**YARN, "truncate": False}},
    "yarn, null truncate": {"rope_parameters": {**YARN, "truncate": None}},
    "yarn, no ramp": {"rope_parameters": {**YARN, "beta_fast": 1.0, "truncate": False}},
    "longrope without factor": {"rope_parameters": {**LONGROPE, "factor": ...}},
    "longrope, factor null": {"rope_parameters": {**LONGROPE, "factor": None}},
    "longrope without factor and original": {
        "rope_parameters": {**LONGROPE, "factor": ..., ORIGINAL: ...}
    },
    "longrope, original beside": {"rope_parameters": LONGROPE, ORIGINAL: 32},
    "longrope, attention factor": {"rope_parameters": {**LONGROPE, "attention_factor": 1.5}},
    "longrope, factors integers": {"rope_parameters": {**LONGROPE, "long_factor": [3] * 32}},
}


def hf_config(**changes):
    """A Llama with heads of 64 and 128 positions; ... stands for a key that is not there."""
    hf = tiny.hf_config("llama", "lm", head_dim=64, max_position_embeddings=128)
    del hf["rope_parameters"]
    for key, value in changes.items():
        if isinstance(value, dict):
            value = {inner: v for inner, v in value.items() if v is not ...}
        hf[key] = value
    return hf


def read(rope):
    return config_from_hf(hf_config(rope_parameters=rope)).rope


def theirs_at(hf, length):
    """transformers' frequencies and attention factor for a text of that length."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rotary = LlamaRotaryEmbedding(transformers.AutoConfig.for_model(**copy.deepcopy(hf)))
    rotary(torch.zeros(1), torch.arange(length)[None])
    return rotary.inv_freq.numpy(), rotary.attention_scaling


def assert_as_theirs(hf):
    """At lengths within, at and past the original ones, each alone and all in one batch."""
    rope, lengths = config_from_hf(hf).rope, [1, 63, 64, 65, 127, 128, 129, 500]
    all_at_once = inverse_frequencies(rope, 64, jnp.array([lengths, lengths[::-1]]))
    for i, length in enumerate(lengths):
        frequencies, attention = theirs_at(hf, length)
        ours = inverse_frequencies(rope, 64, jnp.array([[length]]))
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours.reshape(32), frequencies, rtol=2e-6)
        if ours.ndim == 3:
            np.testing.assert_array_equal(all_at_once[0, i], ours[0, 0])
            np.testing.assert_array_equal(all_at_once[1, -1 - i], ours[0, 0])
        assert attention_factor(rope) == pytest.approx(attention, rel=1e-7)


def test_a_pair_is_turned_by_position_times_frequency():
    """A quarter turn takes (1, 0) to (0, 1); pairs are (c, c + C / 2), not neighbours."""
    x = jnp.array([1.0, 2.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    turned = rotate(x, jnp.array([[2]]), np.array([math.pi / 4, 0.0], np.float32))
    np.testing.assert_allclose(turned[0, 0, 0], [0, 2, 1, 0], atol=1e-6)


def test_products_depend_on_distance_alone():
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 2, 8)), jnp.float32) for _ in range(2))
    frequencies = inverse_frequencies(Rope(theta=100.0), 8)

    def product(at_q, at_k):
        turned = (rotate(x, jnp.array([[at]]), frequencies) for x, at in ((q, at_q), (k, at_k)))
        return np.einsum("BIHC,BIHC->H", *turned)

    np.testing.assert_allclose(product(9, 4), product(105, 100), atol=1e-4)
    assert np.abs(product(9, 4) - product(9, 5)).max() > 0.01


def test_each_word_vector_has_its_own_position_and_heads_share_it():
    x = jnp.ones((2, 3, 2, 4))
    turned = np.asarray(
        rotate(x, jnp.array([[0, 5, 5], [5, 0, 1]]), inverse_frequencies(Rope(), 4))
    )
    np.testing.assert_array_equal(turned[0, 0], x[0, 0])
    np.testing.assert_array_equal(turned[0, 1], turned[0, 2])
    np.testing.assert_array_equal(turned[0, 1], turned[1, 0])
    np.testing.assert_array_equal(turned[:, :, 0], turned[:, :, 1])
    assert not np.allclose(turned[0, 0], turned[0, 1])


def test_angles_are_float32_whatever_the_dtype():
    """In bfloat16 the positions 2000 and 2003 would be one."""
    x = jnp.ones((1, 2, 1, 4), jnp.bfloat16)
    turned = rotate(x, jnp.array([[2000, 2003]]), inverse_frequencies(Rope(), 4))
    assert turned.dtype == jnp.bfloat16
    assert not np.allclose(turned[0, 0].astype(jnp.float32), turned[0, 1].astype(jnp.float32))


@each_type
def test_frequencies_equal_those_of_transformers(rope):
    assert_as_theirs(hf_config(rope_parameters=rope))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_frequencies_are_those_of_transformers_wherever_a_config_says_them(changes):
    """And written back, transformers reads the same: what is written beside must not count."""
    hf = hf_config(**changes)
    assert_as_theirs(hf)
    config = config_from_hf(hf)
    written = config.to_hf()
    assert config_from_hf(written) == config
    assert not {"rope_theta", "rope_scaling"} & set(written)
    for length in (64, 65, 129):
        for ours, theirs in zip(theirs_at(written, length), theirs_at(hf, length), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-7)


def test_su_is_longrope():
    """transformers says so of Phi-3 and does not know it in a Llama."""
    rope = {**LONGROPE, "type": "su", "rope_type": ...}
    config = config_from_hf(hf_config(rope_scaling=rope))
    assert config.rope == read(LONGROPE)
    assert config.to_hf()["rope_parameters"] == LONGROPE


def test_llama3_keeps_short_wavelengths_slows_long_ones_and_blends_between():
    rope = Rope(theta=100.0, kind="llama3", factor=4.0, low=1.0, high=4.0, original=64)
    plain, slowed = inverse_frequencies(Rope(theta=100.0), 16), inverse_frequencies(rope, 16)
    for before, after in zip(plain.tolist(), slowed.tolist(), strict=True):
        wavelength = 2 * math.pi / before
        if wavelength < 64 / 4:
            expected = before
        elif wavelength > 64 / 1:
            expected = before / 4
        else:
            share = (64 / wavelength - 1) / (4 - 1)
            expected = share * before + (1 - share) * before / 4
        assert after == pytest.approx(expected, rel=1e-5)
    assert slowed[0] == plain[0]  # all three kinds are among them
    assert slowed[-1] == pytest.approx(plain[-1] / 4)
    assert ((slowed < 0.99 * plain) & (slowed > 1.01 * plain / 4)).any()


@each_type
def test_writing_and_reading_gives_the_same_rope(rope):
    assert read(rope).to_hf() == rope


def test_writing_invents_no_keys():
    for rope in ({**YARN, "mscale": 0.9, "truncate": False}, {**LONGROPE, "attention_factor": 1.5}):
        assert read(rope).to_hf() == rope


@pytest.mark.parametrize("kind", ["mrope", "proportional", "axial", "", 3, ["linear"]])
def test_unknown_scaling_is_refused_by_name(kind):
    """Read as if it were none, long texts would come out wrong and nobody would know."""
    hf = tiny.hf_config("llama", "lm", rope_parameters={"rope_type": kind, "factor": 2.0})
    message = f"{kind!r} is not implemented; implemented are default, linear, dynamic, yarn, lo"
    message = re.escape(message)
    with pytest.raises(ConfigError, match=message):
        config_from_hf(hf)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "linear"}, r"rope_parameters\.factor must be a number.*None"),
        ({"rope_type": "linear", "factor": 0}, r"rope_parameters\.factor.*greater than 0; it is 0"),
        ({"rope_type": "dynamic"}, r"rope_parameters\.factor must be a number.*None"),
        ({**DYNAMIC, "factor": None}, r"rope_parameters\.factor must be a number.*None"),
        ({**LLAMA3, "low_freq_factor": "1"}, r"rope_parameters\.low_freq_factor.*'1'"),
        ({**LLAMA3, ORIGINAL: 0}, rf"rope_parameters\.{ORIGINAL} must be an integer.*0"),
        ({**YARN, "factor": ...}, r"rope_parameters\.factor must be a number.*None"),
        ({**YARN, "factor": "2"}, r"rope_parameters\.factor must be a number.*'2'"),
        ({**YARN, ORIGINAL: 64.5}, rf"rope_parameters\.{ORIGINAL} must be an integer.*64\.5"),
        ({**YARN, "factor": None, ORIGINAL: "64"}, rf"{ORIGINAL} must be an integer.*'64'"),
        ({**YARN, "beta_fast": "32"}, r"rope_parameters\.beta_fast.*'32'"),
        ({**YARN, "attention_factor": -1}, r"rope_parameters\.attention_factor.*-1"),
        ({**YARN, "truncate": "no"}, r"rope_parameters\.truncate must be true or false.*'no'"),
        ({**LONGROPE, "short_factor": ...}, r"short_factor must be a list of numbers; it is None"),
        ({**LONGROPE, "long_factor": 2.0}, r"long_factor must be a list of numbers; it is 2\.0"),
        (
            {**LONGROPE, "long_factor": [1.0] * 31},
            "long_factor has 31 numbers.* 64 it must have 32",
        ),
        ({**LONGROPE, "short_factor": []}, "short_factor has 0 numbers"),
        ({**LONGROPE, "short_factor": [1.0, "2"]}, r"short_factor\[1\] must be a number.*'2'"),
        ({**LONGROPE, "short_factor": [1.0, 0.0]}, r"short_factor\[1\] must be.*greater than 0"),
        ({"rope_theta": "big"}, r"rope_parameters\.rope_theta.*'big'"),
        ({"rope_theta": 0}, r"rope_parameters\.rope_theta.*greater than 0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor other than 1"),
        ({"full_attention": LINEAR}, "an object for each kind of layer .full_attention.*not impl"),
        ("linear", "rope_parameters must be an object; it is 'linear'"),
    ],
)
def test_broken_ropes_are_refused_by_key(rope, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(hf_config(rope_parameters=rope))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"type": "linear"}}, r"rope_scaling\.factor must be a number"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor other than 1"),
        ({"rope_parameters": {**DYNAMIC}, "head_dim": 2}, "head_dim 2 is too small.*'dynamic'"),
        ({"max_position_embeddings": "128"}, "max_position_embeddings must be an integer"),
    ],
)
def test_what_is_broken_beside_rope_parameters_is_refused_too(changes, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(hf_config(**changes))


@pytest.mark.parametrize(
    ("rope", "positions"),
    [
        (DEFAULT, 128),
        (LINEAR, 320),
        (DYNAMIC, 384),
        (YARN, 512),
        ({**YARN, "factor": 1.5}, 128),
        (LONGROPE, 128),
        (LLAMA3, 128),
        ({**LINEAR, "factor": 0.5}, 128),
    ],
)
def test_stretched_models_read_as_many_tokens_as_they_are_stretched_to(rope, positions):
    config = config_from_hf(hf_config(rope_parameters=rope))
    assert config.max_positions == positions
    assert config.to_hf()["max_position_embeddings"] == 128


def test_a_factor_multiplies_what_is_turned():
    x = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    frequencies = inverse_frequencies(Rope(), 4)
    turned = rotate(x, jnp.array([[3]]), frequencies)
    np.testing.assert_allclose(rotate(x, jnp.array([[3]]), frequencies, 1.5), 1.5 * turned)


def test_dynamic_turns_the_slowest_pair_no_further_than_it_ever_did():
    """By hand: of 4 pairs and 10 times the length, with a base of 100 and a factor of 1."""
    rope = Rope(theta=100.0, kind="dynamic", factor=1.0, original=16)
    frequencies = inverse_frequencies(rope, 8, jnp.array([[16, 160]]))[0]
    slowest = 100.0 ** (-3 / 4)
    np.testing.assert_allclose(frequencies[:, 0], 1.0)
    np.testing.assert_allclose(frequencies[:, -1], [slowest, slowest / 10], rtol=1e-5)
