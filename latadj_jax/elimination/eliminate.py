"""Elimination: which word-vectors stay, and taking them out of an array."""

import jax
import jax.numpy as jnp

from latadj_jax.layers.named import named


@named("size")
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
    length = ranking_BL.shape[1]
    ranking_BL = jnp.nan_to_num(jax.lax.stop_gradient(ranking_BL), nan=jnp.finfo(jnp.float32).min)
    ranking_BL = jnp.where(protected_BL, jnp.inf, ranking_BL)
    ranking_BL = jnp.where(valid_BL, ranking_BL, -jnp.inf)
    slots_BL = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None, :], ranking_BL.shape)
    # Not by top_k, which gathers a batch that is split over devices.
    _, best_BL = jax.lax.sort((-ranking_BL, slots_BL), dimension=1, num_keys=1, is_stable=True)
    kept_BL = jnp.where(slots_BL < count_B[:, None], best_BL, length)
    return jax.lax.sort(kept_BL, dimension=1)[:, :size]


@named("size")
def indices_where(mask_BL: jax.Array, size: int) -> jax.Array:
    """Indices where it is True, int32 [B, size], ascending; L where there are no more."""
    length = mask_BL.shape[1]
    slots_1L = jnp.arange(length, dtype=jnp.int32)[None, :]
    return jax.lax.sort(jnp.where(mask_BL, slots_1L, length), dimension=1)[:, :size]


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
