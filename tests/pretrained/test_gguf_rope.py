"""Rotary embeddings of GGUF files, beside llama.cpp's formulas and transformers' own numbers."""

import math

import numpy as np
import pytest
from tiny_gguf import HEAD_DIM, write

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf import read_config, read_tensors

SCALING = "llama.rope.scaling"


def scaled(file, scaling, tensors=(), **metadata):
    metadata = {f"llama.{key}": value for key, value in metadata.items()}
    keys = {f"{SCALING}.{key}": value for key, value in scaling.items()}
    return read_config(write(file, {**metadata, **keys}, tensors))["rope_parameters"]


YARN = {"type": "yarn", "factor": 4.0, "original_context_length": 32}
BY_DEFAULT = 0.1 * math.log(4) + 1  # what yarn with this factor multiplies cos and sin by


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"type": "none"}, {"rope_type": "default"}),
        ({"type": "none", "factor": 4.0}, {"rope_type": "default"}),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),  # llama.cpp's default type
        ({"factor": 0.0}, {"rope_type": "default"}),  # as if it was not there
        ({"type": "dynamic", "factor": 4.0}, {"rope_type": "dynamic", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 2.5, "original_context_length": 32},
            {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 32},
        ),
        (  # the trained length is the context's, where the file does not say another one
            {"type": "yarn"},
            {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 64},
        ),
    ],
)
def test_rotary_scaling_is_passed_on_by_name(tmp_path, scaling, expected):
    found = scaled(tmp_path / "m", scaling, **{"rope.freq_base": 5e5})
    assert found == {"rope_theta": 5e5, **expected}


def test_the_older_key_of_a_linear_rope_scaling_is_read_too(tmp_path):
    expected = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    assert scaled(tmp_path / "m", {}, **{"rope.scale_linear": 4.0}) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {}),
        ({"yarn_beta_fast": 16.0, "yarn_beta_slow": 0.1}, {"beta_fast": 16.0, "beta_slow": 0.1}),
        ({"attn_factor": 0.5}, {"attention_factor": 0.5 * BY_DEFAULT}),
        # From config.json's attention_factor: the whole, not a factor more.
        ({"yarn_attn_factor": 1.1}, {"attention_factor": 1.1}),
        ({"yarn_attn_factor": 1.1, "attn_factor": 0.5}, {"attention_factor": 0.55}),
        # Mistral's converter: "apply_scale" or not.
        ({"yarn_attn_factor": 1.0, "yarn_log_multiplier": 0.0}, {"attention_factor": BY_DEFAULT}),
        ({"yarn_attn_factor": 1.0, "yarn_log_multiplier": 1.0}, {"attention_factor": 1.0}),
        (
            {"yarn_log_multiplier": 0.5},
            {"attention_factor": BY_DEFAULT / (0.1 * 0.5 * math.log(4) + 1)},
        ),
        ({"yarn_ext_factor": 1.0}, {}),
    ],
)
def test_what_else_a_file_says_of_yarn(tmp_path, caplog, keys, expected):
    found = scaled(tmp_path / "m", {**YARN, **keys})
    assert found == {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        **{key: pytest.approx(value, rel=1e-6) for key, value in expected.items()},
    }
    assert not caplog.records


def test_a_yarn_that_no_llama_has_is_logged(tmp_path, caplog):
    scaled(tmp_path / "m", {**YARN, "yarn_ext_factor": 0.5})
    assert "llama.rope.scaling.yarn_ext_factor is ignored" in caplog.text


def yarn_of_llama_cpp(width, theta, factor, original, fast=32.0, slow=1.0):
    """Radians per position of each pair, as ggml's rope_yarn turns it, with ext_factor 1."""

    def pair_that_turns(times):
        return width * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first = max(0, math.floor(pair_that_turns(fast)))
    last = min(width - 1, math.ceil(pair_that_turns(slow)))
    frequencies = []
    for pair in range(width // 2):
        extrapolated = theta ** (-2 * pair / width)
        y = (pair - first) / max(0.001, last - first)
        mix = 1 - min(1, max(0, y))
        frequencies.append(extrapolated / factor * (1 - mix) + extrapolated * mix)
    return np.array(frequencies)


@pytest.mark.parametrize("betas", [{}, {"yarn_beta_fast": 8.0, "yarn_beta_slow": 2.0}])
def test_yarn_turns_in_transformers_as_in_llama_cpp(tmp_path, betas):
    pytest.importorskip("torch", reason="transformers computes frequencies with torch")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    metadata = {
        "llama.attention.key_length": 32,
        "llama.context_length": 8192,
        **{f"{SCALING}.{key}": value for key, value in betas.items()},
        **{f"{SCALING}.{key}": value for key, value in YARN.items()},
        f"{SCALING}.original_context_length": 2048,
    }
    config = LlamaConfig(**read_config(write(tmp_path / "m", metadata)))
    frequencies, attention = ROPE_INIT_FUNCTIONS["yarn"](config)
    limits = (betas["yarn_beta_fast"], betas["yarn_beta_slow"]) if betas else ()
    expected = yarn_of_llama_cpp(32, 10000.0, 4.0, 2048, *limits)
    assert len(set(np.round(expected * 10000.0 ** (np.arange(16) / 16), 6))) > 3  # there is a ramp
    np.testing.assert_allclose(frequencies.numpy(), expected, rtol=1e-5)
    assert attention == pytest.approx(BY_DEFAULT)


LONGROPE = {"type": "longrope", "original_context_length": 16}
SHORT = np.linspace(1.0, 1.3, HEAD_DIM // 2, dtype=np.float32)
LONG = np.linspace(1.0, 9.1, HEAD_DIM // 2, dtype=np.float32)
BOTH = {"rope_factors_short": SHORT, "rope_factors_long": LONG}


@pytest.mark.parametrize(
    ("keys", "times", "attention"),
    [
        ({}, 1, 1.0),  # which is llama.cpp's default and not transformers'
        ({"attn_factor": 1.19}, 1, 1.19),
        ({"factor": 2.0}, 2, 1.0),  # llama.cpp divides by it, too
    ],
)
def test_longrope_has_its_factors_from_tensors(tmp_path, keys, times, attention):
    pytest.importorskip("torch", reason="transformers computes frequencies with torch")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    file = tmp_path / "m"
    assert scaled(file, {**LONGROPE, **keys}, BOTH) == {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "short_factor": pytest.approx(SHORT * times),
        "long_factor": pytest.approx(LONG * times),
        "attention_factor": attention,
    }
    assert read_tensors(file) == {}  # they are no weights
    config = LlamaConfig(**read_config(file))
    for length, factors in ((16, SHORT), (17, LONG)):
        frequencies, scale = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=length)
        plain = 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        np.testing.assert_allclose(frequencies.numpy(), plain / (factors * times), rtol=1e-5)
        assert scale == attention


@pytest.mark.parametrize(
    ("scaling", "tensors", "message"),
    [
        (LONGROPE, {}, r"'longrope' needs rope_factors_short\.weight, rope_factors_long\.weight"),
        (LONGROPE, {"rope_factors_short": SHORT}, r"'longrope' needs rope_factors_long\.weight"),
        (
            {"type": "linear", "factor": 2.0},
            {"rope_freqs": SHORT},
            r"rope_freqs\.weight and llama\.rope\.scaling\.type 'linear' together are not",
        ),
        (
            {"type": "linear", "factor": 2.0, "attn_factor": 1.5},
            {},
            r"scaling\.attn_factor 1\.5 is implemented for 'yarn' and 'longrope' only",
        ),
        ({"attn_factor": 1.5}, {}, r"only, not for 'default'"),
    ],
)
def test_scalings_that_are_not_implemented(tmp_path, scaling, tensors, message):
    with pytest.raises(GGUFError, match=message):
        scaled(tmp_path / "m", scaling, tensors)


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
