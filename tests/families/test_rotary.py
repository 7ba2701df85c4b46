"""Rotary positions: hand-made turns, transformers' frequencies, and what a config may say."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import config_from_hf
from latadj_jax.families.rotary import Rope, inverse_frequencies, rotate

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


def read(rope):
    return Rope.from_hf(rope, "rope_parameters")


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


@pytest.mark.parametrize("rope", [DEFAULT, LINEAR, LLAMA3], ids=lambda r: r["rope_type"])
def test_frequencies_equal_those_of_transformers(rope):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=1, rope_parameters=rope)
    theirs = LlamaRotaryEmbedding(config).inv_freq.numpy()
    ours = inverse_frequencies(read(rope), 64)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


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


@pytest.mark.parametrize("rope", [DEFAULT, LINEAR, LLAMA3], ids=lambda r: r["rope_type"])
def test_writing_and_reading_gives_the_same_rope(rope):
    assert read(rope).to_hf() == rope


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "proportional", 3])
def test_unknown_scaling_is_refused_by_name(kind):
    """Read as if it were none, long texts would come out wrong and nobody would know."""
    hf = tiny.hf_config("llama", "lm", rope_parameters={"rope_type": kind, "factor": 2.0})
    message = f"{kind!r} is not implemented; implemented are default, linear"
    with pytest.raises(ConfigError, match=message):
        config_from_hf(hf)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "linear"}, r"rope_parameters\.factor must be a number.*None"),
        ({**LLAMA3, "low_freq_factor": "1"}, r"rope_parameters\.low_freq_factor.*'1'"),
        ({**LLAMA3, "original_max_position_embeddings": None}, "original_max_position_embeddings"),
        ({"rope_theta": "big"}, r"rope_parameters\.rope_theta.*'big'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor other than 1"),
        ("linear", "rope_parameters must be an object; it is 'linear'"),
    ],
)
def test_broken_ropes_are_refused_by_key(rope, message):
    with pytest.raises(ConfigError, match=message):
        config_from_hf(tiny.hf_config("llama", "lm", rope_parameters=rope))
