"""Elimination: which word-vectors stay, and taking them out of an array."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cut(NamedTuple):
    """What one layer removes."""

    count_B: jax.Array  # int32, word-vectors that each example keeps
    size: int  # K, of the buffer that holds them; at least the largest count
    strategy: str = "score"


def select(
    ranking_BL: jax.Array,
    valid_BL: jax.Array,
    protected_BL: jax.Array,
    count_B: jax.Array,
    size: int,
) -> jax.Array:
    """Indices of the `count` best word-vectors, in their original order.

    Protected ones come first whatever their rank, invalid ones never; of equals the earlier stays.
    No gradient flows into the ranking: it flows through what is kept.

        ranking  1.8 0.6 0.5 1.1,  all valid, 0 protected,  count 2, size 3   ->   0 3 4

    Args:
      ranking_BL: float32, higher is kept first.
      valid_BL, protected_BL: bool; protected word-vectors are valid.
      count_B: int32, at most the number of valid word-vectors.
      size: K, at least every count, at most L.

    Returns:
      int32 [B, K], ascending; L (one past the end) where the buffer holds nothing.

    Source: arXiv 2201.03327, section 3.
    """
    _, length = ranking_BL.shape
    ranking_BL = jnp.where(protected_BL, jnp.inf, jax.lax.stop_gradient(ranking_BL))
    ranking_BL = jnp.where(valid_BL, ranking_BL, -jnp.inf)
    _, best_BK = jax.lax.top_k(ranking_BL, size)
    kept_BK = jnp.arange(size, dtype=jnp.int32)[None, :] < count_B[:, None]
    return jnp.sort(jnp.where(kept_BK, best_BK, length), axis=1)


def take(x: jax.Array, keep_BK: jax.Array, axis: int = 1) -> jax.Array:
    """The kept rows of `x` [B, ..., L, ...] along `axis`.

    Empty slots repeat the last row, and are to be masked.
    """
    shape = [1] * x.ndim
    shape[0], shape[axis] = keep_BK.shape
    return jnp.take_along_axis(x, keep_BK.reshape(shape), axis=axis, mode="clip")


def take_positions(positions_BL: jax.Array, keep_BK: jax.Array) -> jax.Array:
    """Original positions of the kept word-vectors; -1 where the buffer holds nothing."""
    length = positions_BL.shape[1]
    return jnp.where(keep_BK < length, take(positions_BL, keep_BK), -1)


def put_back(full_BTD: jax.Array, x_BLD: jax.Array, positions_BL: jax.Array) -> jax.Array:
    """Writes each word-vector over the row of its original position; empty slots write nothing."""
    outside = full_BTD.shape[1]
    rows_BL = jnp.where(positions_BL < 0, outside, positions_BL)
    return jax.vmap(lambda full, x, rows: full.at[rows].set(x, mode="drop"))(
        full_BTD, x_BLD, rows_BL
    )
