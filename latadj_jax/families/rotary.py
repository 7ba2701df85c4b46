"""Rotary position embedding: what a config says of it, and its frequencies and rotation."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.errors import ConfigError
from latadj_jax.families.hf_config import number, size

# Fields of Rope that a kind of scaling has, and their keys in config.json.
KEYS = {
    "default": {},
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low": "low_freq_factor",
        "high": "high_freq_factor",
        "original": "original_max_position_embeddings",
    },
}


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding: its base, and how its frequencies are stretched, if they are.

    Attributes:
      kind: "default", "linear" or "llama3".
      low, high: the wavelengths between which "llama3" interpolates, as shares of `original`.
      original: positions that the model was trained on before "llama3" stretched them.
    """

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    @classmethod
    def from_hf(cls, values: Any, key: str) -> "Rope":
        if not isinstance(values, Mapping):
            raise ConfigError(f"config.json: {key} must be an object; it is {values!r}.")
        kind = values.get("rope_type", values.get("type", "default"))
        if kind not in KEYS:
            raise ConfigError(
                f"{key}: rope scaling of type {kind!r} is not implemented; implemented are "
                f"{', '.join(KEYS)}."
            )
        if values.get("partial_rotary_factor", 1.0) != 1.0:
            raise ConfigError(f"{key}: a partial_rotary_factor other than 1 is not implemented.")
        read = {
            ours: (size if ours == "original" else number)(values.get(theirs), f"{key}.{theirs}")
            for ours, theirs in KEYS[kind].items()
        }
        return cls(number(values.get("rope_theta", 10000.0), f"{key}.rope_theta"), kind, **read)

    def to_hf(self) -> dict[str, Any]:
        keys = {theirs: getattr(self, ours) for ours, theirs in KEYS[self.kind].items()}
        return {"rope_type": self.kind, "rope_theta": self.theta, **keys}


def inverse_frequencies(rope: Rope, head_size: int) -> np.ndarray:
    """Radians per position of each of a head's pairs: float32 [C / 2].

    "linear" slows all of them by `factor`. "llama3" leaves short wavelengths as they are, slows
    long ones by `factor`, and goes smoothly from one to the other in between.

    Source: Su et al., arXiv 2104.09864; "llama3": Grattafiori et al., arXiv 2407.21783.
    """
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    plain = (1.0 / np.float32(rope.theta) ** exponents).astype(np.float32)
    if rope.kind == "default":
        return plain
    slowed = plain / np.float32(rope.factor)
    if rope.kind == "linear":
        return slowed
    turns = rope.original * plain / (2 * math.pi)  # within the positions trained on before
    as_before = np.clip((turns - rope.low) / (rope.high - rope.low), 0.0, 1.0)
    return (as_before * plain + (1 - as_before) * slowed).astype(np.float32)


def rotate(x_BLHC: jax.Array, positions_BL: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """`x` with each pair (c, c + C / 2) of a head turned by position times frequency.

    Rotating both queries and keys makes their products depend on distance alone. In float32,
    returned in the dtype that came in.
    """
    angles_BL1C = positions_BL.astype(jnp.float32)[:, :, None, None] * frequencies[None, None, None]
    cos_BL1C, sin_BL1C = jnp.cos(angles_BL1C), jnp.sin(angles_BL1C)
    a_BLHC, b_BLHC = jnp.split(x_BLHC.astype(jnp.float32), 2, axis=-1)
    turned = (a_BLHC * cos_BL1C - b_BLHC * sin_BL1C, b_BLHC * cos_BL1C + a_BLHC * sin_BL1C)
    return jnp.concatenate(turned, axis=-1).astype(x_BLHC.dtype)
