"""The kinds of rotary position embedding: how each stretches its frequencies over longer texts.

`rope` is a Rope (rotary.py), of which each formula reads what its kind has; `lengths_BL` is how
long each word-vector's text is.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Frequencies, as `inverse_frequencies` of rotary.py returns them.


def plain(rope, head_size: int, lengths_BL=None) -> np.ndarray:
    """theta ** (-2 c / C). Source: Su et al., arXiv 2104.09864."""
    return (1.0 / np.float32(rope.theta) ** _exponents(head_size)).astype(np.float32)


def linear(rope, head_size: int, lengths_BL) -> np.ndarray:
    """All slowed by `factor`. Source: Chen et al., arXiv 2306.15595."""
    return plain(rope, head_size) / np.float32(rope.factor)


def dynamic(rope, head_size: int, lengths_BL) -> jax.Array:
    """As plain, with a base that grows with the length n of a text longer than `original`:

    theta * (factor * n / original - (factor - 1)) ** (C / (C - 2))

    Slow pairs are slowed nearly as far as a text is longer, fast ones hardly.
    Source: "NTK-aware" scaling, Peng et al., arXiv 2309.00071, appendix A.
    """
    n_BL1 = jnp.maximum(lengths_BL, rope.original).astype(jnp.float32)[:, :, None]
    growth_BL1 = rope.factor * n_BL1 / rope.original - (rope.factor - 1)
    theta_BL1 = rope.theta * growth_BL1 ** (head_size / (head_size - 2))
    return 1.0 / theta_BL1 ** _exponents(head_size)[None, None]


def yarn(rope, head_size: int, lengths_BL) -> np.ndarray:
    """Pairs that turn more than `fast` times within `original` stay as they are, those that turn
    less than `slow` times are slowed by `factor`; in between it goes linearly, pair by pair.

    `truncate`: the ramp begins and ends at a whole pair. Source: Peng et al., arXiv 2309.00071.
    """

    def pair_that_turns(times: float) -> float:
        ratio = rope.original / (times * 2 * math.pi)
        return head_size * math.log(ratio) / (2 * math.log(rope.theta))

    first, last = pair_that_turns(rope.fast or 32.0), pair_that_turns(rope.slow or 1.0)
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_size - 1)
    last += 0.001 if first == last else 0.0
    pairs = np.arange(head_size // 2, dtype=np.float32)
    slowed = np.clip((pairs - np.float32(first)) / np.float32(last - first), 0.0, 1.0)
    as_is = plain(rope, head_size)
    return slowed * as_is / np.float32(rope.factor) + (1 - slowed) * as_is


def longrope(rope, head_size: int, lengths_BL) -> jax.Array:
    """Each pair is slowed by a factor of its own: from `short` in a text of at most `original`
    tokens, from `long` in a longer one. Source: Ding et al., arXiv 2402.13753.
    """
    as_is = plain(rope, head_size)
    short, long = (as_is / np.float32(factors) for factors in (rope.short, rope.long))
    is_long_BL1 = (lengths_BL > rope.original)[:, :, None]
    return jnp.where(is_long_BL1, long[None, None], short[None, None])


def llama3(rope, head_size: int, lengths_BL) -> np.ndarray:
    """Pairs that turn more than `high` times within `original` stay as they are, those that turn
    less than `low` times are slowed by `factor`; in between it goes smoothly.

    Source: Grattafiori et al., arXiv 2407.21783.
    """
    as_is = plain(rope, head_size)
    turns = rope.original * as_is / (2 * math.pi)  # within the positions trained on before
    as_before = np.clip((turns - rope.low) / (rope.high - rope.low), 0.0, 1.0)
    slowed = as_is / np.float32(rope.factor)
    return (as_before * as_is + (1 - as_before) * slowed).astype(np.float32)


def _exponents(head_size: int) -> np.ndarray:
    return np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)


# What cos and sin are multiplied by, where a config does not say it.


def one(rope) -> float:
    return 1.0


def yarn_attention(rope) -> float:
    """That of scale 1; with DeepSeek's `mscale` and `mscale_all`, the ratio of theirs."""
    if rope.mscale and rope.mscale_all:
        return stretched(rope.factor, rope.mscale) / stretched(rope.factor, rope.mscale_all)
    return stretched(rope.factor)


def stretched(factor: float, scale: float = 1.0) -> float:
    """0.1 scale ln(factor) + 1. Source: Peng et al., arXiv 2309.00071, section 3.4."""
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def longrope_attention(rope) -> float:
    """sqrt(1 + ln(factor) / ln(original))."""
    if rope.factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(rope.factor) / math.log(rope.original))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of rope scaling.

    Attributes:
      needs, optional: the fields of Rope that a config must have and may have.
    """

    frequencies: Callable
    needs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    attention: Callable = one


KINDS = {
    "default": Kind(plain),
    "linear": Kind(linear, ("factor",)),
    "dynamic": Kind(dynamic, ("factor",)),
    "yarn": Kind(
        yarn,
        ("factor", "original"),
        ("fast", "slow", "truncate", "attention", "mscale", "mscale_all"),
        yarn_attention,
    ),
    "longrope": Kind(
        longrope, ("factor", "original", "short", "long"), ("attention",), longrope_attention
    ),
    "llama3": Kind(llama3, ("factor", "low", "high", "original")),
}
