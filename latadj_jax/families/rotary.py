"""Rotary position embedding: what a config says of it, its frequencies, and the rotation."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.checks import is_number
from latadj_jax.errors import ConfigError
from latadj_jax.families.hf_config import field, flag, number, size
from latadj_jax.families.rope_kinds import KINDS

POSITIONS, ORIGINAL = "max_position_embeddings", "original_max_position_embeddings"


def positive(value: Any, key: str) -> float:
    if not is_number(value) or not 0 < value < math.inf:
        raise ConfigError(f"config.json: {key} must be a number greater than 0; it is {value!r}.")
    return float(value)


def positives(value: Any, key: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"config.json: {key} must be a list of numbers; it is {value!r}.")
    return tuple(positive(n, f"{key}[{i}]") for i, n in enumerate(value))


def whole(value: Any, key: str) -> int:
    """A size, which 4096.0 is too."""
    return size(int(value) if is_number(value) and value % 1 == 0 else value, key)


def or_null(read: Callable) -> Callable:
    return lambda value, key: None if value is None else read(value, key)


def flag_or_null(value: Any, key: str) -> bool:
    return value is not None and flag(value, key)  # null is false, as in transformers


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding: its base, and how its frequencies are stretched, if they are.

    Attributes:
      kind: one of KINDS, whose functions say what the other attributes mean.
      factor: how many times longer texts may be than before the frequencies were stretched.
      original: positions that the model was trained on before that.
      attention: what cos and sin are multiplied by; None: what the kind derives from the others.
    """

    theta: float = field("rope_theta", positive, 10000.0)
    kind: str = "default"
    factor: float = field("factor", positive, 1.0)
    low: float = field("low_freq_factor", number, 1.0)
    high: float = field("high_freq_factor", number, 4.0)
    original: int = field(ORIGINAL, whole, 8192)
    fast: float | None = field("beta_fast", or_null(number), None)
    slow: float | None = field("beta_slow", or_null(number), None)
    truncate: bool = field("truncate", flag_or_null, True)
    attention: float | None = field("attention_factor", or_null(number), None)
    mscale: float | None = field("mscale", or_null(number), None)
    mscale_all: float | None = field("mscale_all_dim", or_null(number), None)
    short: tuple[float, ...] = field("short_factor", positives, ())
    long: tuple[float, ...] = field("long_factor", positives, ())

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "Rope":
        """Reads it from a config, wherever transformers 4 and 5 look for it.

        Of two places that say the same thing, the one that transformers reads counts.

        Args:
          hf: what config.json holds, with max_position_embeddings.
        """
        place = "rope_scaling" if hf.get("rope_scaling") else "rope_parameters"
        said, positions = hf.get(place) or {}, size(hf[POSITIONS], POSITIONS)
        if not isinstance(said, Mapping):
            raise ConfigError(f"config.json: {place} must be an object; it is {said!r}.")
        if nested := [key for key, value in said.items() if isinstance(value, Mapping)]:
            raise ConfigError(
                f"{place} has an object for each kind of layer ({', '.join(nested)}); that is not "
                f"implemented."
            )
        if _first(said.get("partial_rotary_factor"), hf.get("partial_rotary_factor"), 1) != 1:
            raise ConfigError(f"{place}: a partial_rotary_factor other than 1 is not implemented.")
        kind = _first(said.get("rope_type"), said.get("type"), "default")
        kind = "longrope" if kind == "su" else kind  # its name in the first configs of Phi-3
        if kind not in [*KINDS]:
            raise ConfigError(
                f"{place}: rope scaling of type {kind!r} is not implemented; implemented are "
                f"{', '.join(KINDS)}."
            )
        said = {
            **said,
            "rope_theta": _first(said.get("rope_theta"), hf.get("rope_theta"), cls.theta),
            ORIGINAL: _first(hf.get(ORIGINAL), said.get(ORIGINAL), positions),
        }
        if kind == "longrope":  # may leave it out, where yarn may only leave it null
            said.setdefault("factor", None)
        if kind in ("yarn", "longrope") and said.get("factor", 0) is None:
            said["factor"] = positions / whole(said[ORIGINAL], f"{place}.{ORIGINAL}")
        read = {
            f.name: f.metadata["read"](said.get(f.metadata["hf"]), f"{place}.{f.metadata['hf']}")
            for f in _fields(kind)
            if f.name not in KINDS[kind].optional or f.metadata["hf"] in said
        }
        if kind == "dynamic":
            read["original"] = positions
        return cls(kind=kind, **read)

    def to_hf(self) -> dict[str, Any]:
        """rope_parameters of a config; of its optional keys, those without their default."""
        hf = {"rope_type": self.kind}
        for f in _fields(self.kind):
            value = getattr(self, f.name)
            if f.name not in KINDS[self.kind].optional or value != f.default:
                hf[f.metadata["hf"]] = [*value] if isinstance(value, tuple) else value
        return hf

    def check(self, head_size: int) -> None:
        """Raises ConfigError where heads of that size cannot be turned by it."""
        if self.kind == "dynamic" and head_size == 2:
            raise ConfigError("head_dim 2 is too small for rope scaling of type 'dynamic'.")
        for key, factors in (("short_factor", self.short), ("long_factor", self.long)):
            if self.kind == "longrope" and len(factors) != head_size // 2:
                raise ConfigError(
                    f"{key} has {len(factors)} numbers; with head_dim {head_size} it must have "
                    f"{head_size // 2}."
                )

    def reach(self, positions: int) -> int:
        """Tokens that a model with that max_position_embeddings can read, counted as vLLM does.

        "linear" and "dynamic" stretch these positions, "yarn" the original ones; where it is
        "longrope" or "llama3", max_position_embeddings is the stretched number already.
        """
        stretched = {"linear": positions, "dynamic": positions, "yarn": self.original}
        return max(positions, int(self.factor * stretched.get(self.kind, 0)))


def _first(*values: Any) -> Any:
    """The first that is not null."""
    return next(value for value in values if value is not None)


def _fields(kind: str) -> list[dataclasses.Field]:
    """The fields of Rope that a kind has in config.json."""
    names = ("theta", *KINDS[kind].needs, *KINDS[kind].optional)
    return [f for f in dataclasses.fields(Rope) if f.name in names]


def inverse_frequencies(rope: Rope, head_size: int, lengths_BL=None) -> np.ndarray | jax.Array:
    """Radians per position of each of a head's pairs.

    Args:
      lengths_BL: int32, how long each word-vector's text is; "dynamic" and "longrope" go by it.

    Returns:
      float32 [C / 2]; of "dynamic" and "longrope" [B, L, C / 2].
    """
    return KINDS[rope.kind].frequencies(rope, head_size, lengths_BL)


def attention_factor(rope: Rope) -> float:
    """What cos and sin are multiplied by, and attention logits twice."""
    return KINDS[rope.kind].attention(rope) if rope.attention is None else rope.attention


def rotate(
    x_BLHC: jax.Array,
    positions_BL: jax.Array,
    frequencies: np.ndarray | jax.Array,
    factor: float = 1.0,
) -> jax.Array:
    """`x` with each pair (c, c + C / 2) of a head turned by position times frequency.

    Rotating both queries and keys makes their products depend on distance alone. In float32,
    returned in the dtype that came in.

    Args:
      frequencies: [C / 2], or [B, L, C / 2] where they are not the same everywhere.
      factor: what all of it is multiplied by.
    """
    own_BLC = frequencies if frequencies.ndim == 3 else frequencies[None, None]
    angles_BL1C = positions_BL.astype(jnp.float32)[:, :, None, None] * own_BLC[:, :, None]
    cos_BL1C, sin_BL1C = jnp.cos(angles_BL1C), jnp.sin(angles_BL1C)
    if factor != 1.0:
        cos_BL1C, sin_BL1C = factor * cos_BL1C, factor * sin_BL1C
    a_BLHC, b_BLHC = jnp.split(x_BLHC.astype(jnp.float32), 2, axis=-1)
    turned = (a_BLHC * cos_BL1C - b_BLHC * sin_BL1C, b_BLHC * cos_BL1C + a_BLHC * sin_BL1C)
    return jnp.concatenate(turned, axis=-1).astype(x_BLHC.dtype)
