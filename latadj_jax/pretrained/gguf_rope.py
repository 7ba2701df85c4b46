"""The rotary embedding that a GGUF file describes, as config.json has it.

Source: llama.cpp (llama-model.cpp reads the keys, llama-context.cpp derives from them).
"""

import logging
from typing import Any

import numpy as np

from latadj_jax.errors import GGUFError
from latadj_jax.families.rope_kinds import stretched
from latadj_jax.pretrained.gguf_file import Header, decimal

log = logging.getLogger(__name__)

SCALING = "rope.scaling"  # after the name of the architecture
FREQS, LONG, SHORT = (f"rope_{what}.weight" for what in ("freqs", "factors_long", "factors_short"))
FACTORS = (FREQS, LONG, SHORT)  # one divisor per rotary frequency each; no weights


def rope_parameters(header: Header) -> dict[str, Any]:
    """What config.json has as rope_parameters; kinds that llama.cpp has not are passed on by name.

    Raises:
      GGUFError: divisors of frequencies that are missing or not Llama 3.1's, or scalings that
        are not implemented together.
    """
    theta = decimal(header.get("rope.freq_base", 10000.0))
    linear = header.get("rope.scale_linear", 0.0)
    factor = decimal(header.get(f"{SCALING}.factor", linear)) or 1.0
    kind = header.get(f"{SCALING}.type", "linear")
    if kind == "none" or (kind == "linear" and factor == 1):
        kind = "default"
    if FREQS in header.tensors:
        if kind != "default":
            raise GGUFError(
                f"{header.file}: {FREQS} and {header.key(SCALING)}.type {kind!r} together are not "
                f"implemented."
            )
        kind, scaling = "llama3", _llama3(header, theta)
    else:
        others = {"default": _default, "yarn": _yarn, "longrope": _longrope}
        scaling = others.get(kind, _by_name)(header, factor)
    attention = decimal(header.get(f"{SCALING}.attn_factor", 1.0))
    if attention != 1 and kind not in ("yarn", "longrope"):
        raise GGUFError(
            f"{header.file}: {header.key(SCALING)}.attn_factor {attention} is implemented for "
            f"'yarn' and 'longrope' only, not for {kind!r}."
        )
    return {"rope_type": kind, "rope_theta": theta, **scaling}


def _default(header: Header, factor: float) -> dict[str, Any]:
    return {}


def _by_name(header: Header, factor: float) -> dict[str, Any]:
    original = header.get(f"{SCALING}.original_context_length")
    named = {} if original is None else {"original_max_position_embeddings": original}
    return {"factor": factor, **named}


def _original(header: Header) -> int:
    return header.get(f"{SCALING}.original_context_length") or header.size("context_length")


def _yarn(header: Header, factor: float) -> dict[str, Any]:
    """Keys that the file leaves out stay away: transformers' defaults are those of llama.cpp
    (attention_factor 0.1 ln(factor) + 1, beta_fast 32, beta_slow 1)."""
    if header.get(f"{SCALING}.yarn_ext_factor", 1.0) not in (1.0, -1.0):  # -1: as if not there
        log.warning(
            "%s: %s.yarn_ext_factor is ignored, as llama.cpp and transformers do with a Llama.",
            header.file, header.key(SCALING),
        )  # fmt: skip
    parameters = {"factor": factor, "original_max_position_embeddings": _original(header)}
    if (attention := _yarn_attention(header, factor)) is not None:
        parameters["attention_factor"] = attention
    for name in ("beta_fast", "beta_slow"):
        if (value := header.get(f"{SCALING}.yarn_{name}")) is not None:
            parameters[name] = decimal(value)
    return parameters


def _yarn_attention(header: Header, factor: float) -> float | None:
    """What cos and sin are multiplied by; None where no key says it.

    yarn_log_multiplier is transformers' mscale_all_dim. Files converted from Mistral's own format
    have it; their yarn_attn_factor is always 1 and says nothing. In other files yarn_attn_factor
    is the attention_factor of config.json. (llama.cpp reads neither key in a Llama's file.)
    attn_factor multiplies what these say, or the default.
    """
    extra = header.get(f"{SCALING}.attn_factor")
    log_multiplier = header.get(f"{SCALING}.yarn_log_multiplier")
    total = header.get(f"{SCALING}.yarn_attn_factor")
    if log_multiplier is not None:
        total = stretched(factor) / stretched(factor, decimal(log_multiplier))
    elif total is not None:
        total = decimal(total)
    elif extra is not None:
        total = stretched(factor)
    return None if total is None else total * decimal(1.0 if extra is None else extra)


def _longrope(header: Header, factor: float) -> dict[str, Any]:
    """llama.cpp divides all frequencies by `factor`, too. It multiplies cos and sin by attn_factor,
    which is 1 where the file has none; transformers' default would be another one."""
    if missing := [name for name in (SHORT, LONG) if name not in header.tensors]:
        raise GGUFError(
            f"{header.file}: {header.key(SCALING)}.type 'longrope' needs {', '.join(missing)}."
        )
    short, long = (header.array(name) * np.float32(factor) for name in (SHORT, LONG))
    return {
        "short_factor": [decimal(value) for value in short.ravel()],
        "long_factor": [decimal(value) for value in long.ravel()],
        "factor": header.size("context_length") / _original(header),
        "original_max_position_embeddings": _original(header),
        "attention_factor": decimal(header.get(f"{SCALING}.attn_factor", 1.0)),
    }


def _llama3(header: Header, theta: float) -> dict[str, Any]:
    """The parameters behind the file's divisors, one per rotary frequency."""
    low, high, length = 1.0, 4.0, 8192  # of all Llama 3.1, 3.2 and 3.3 models
    divisors = header.array(FREQS)
    factor = float(divisors.max())
    turns = length / (2 * np.pi) * theta ** -(np.arange(divisors.size) / divisors.size)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(divisors, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
        raise GGUFError(f"{header.file}: {FREQS} are not Llama 3.1's; others are not implemented.")
    return {
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }
