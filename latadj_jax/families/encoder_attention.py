"""The attention of an encoder's layer that may be local, of texts of any length, and its score.

Of a long text it is computed in blocks of queries, one after another: their attention weights stay
in a processor's caches, and those of all queries never exist at once, also where gradients are
taken. A block of a local layer looks only at the slots around it. Numbers are those of one block.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from latadj_jax.elimination.cut import Words
from latadj_jax.elimination.score import attention_received, mean_of_viewers
from latadj_jax.layers.attention import attend, attention_weights


def block_size() -> int:
    """Queries of a block: as many as were fastest on a CPU; elsewhere more, to keep it busy."""
    return 64 if jax.default_backend() == "cpu" else 256


def attend_near(
    q_BLHC: jax.Array,
    k_BLHC: jax.Array,
    v_BLHC: jax.Array,
    words: Words,
    window: int | None,
    dropout: Callable[[jax.Array | int, jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Attention output [B, L, H * C] of all that entered a layer, and its Score Vector [B, L].

    Merged word-vectors, which stand for several tokens, are attended to as so many.

    Args:
      words: what entered; their positions ascend from slot to slot.
      window: the greatest distance of two positions that see each other; None: all do.
      dropout: function of the number of a block and its attention weights.
    """
    valid_BL, sizes_BL = words.valid_BL, words.sizes_BL
    queries = q_BLHC, words.positions_BL
    log_sizes_BL = None if sizes_BL is None else jnp.log(sizes_BL)
    keys = k_BLHC.swapaxes(1, 2), v_BLHC.swapaxes(1, 2), words.positions_BL, log_sizes_BL
    block = block_size()
    if q_BLHC.shape[1] <= 4 * block:
        heads_BLE, received_BL, viewers_BL = _attend(queries, keys, window, partial(dropout, 0))
    else:
        heads_BLE, received_BL, viewers_BL = _in_blocks(queries, keys, window, dropout, block)
    if window is None:  # all see all
        return heads_BLE, jnp.where(valid_BL, received_BL, 0.0)
    return heads_BLE, mean_of_viewers(received_BL, viewers_BL, valid_BL)


def near(queries_BI: jax.Array, keys_BJ: jax.Array, window: int | None) -> jax.Array:
    """Which keys each query sees, by position: bool [B, I, J]; an empty slot is seen by none."""
    distances_BIJ = jnp.abs(keys_BJ[:, None, :] - queries_BI[:, :, None])
    within_BIJ = distances_BIJ >= 0 if window is None else distances_BIJ <= window
    return (keys_BJ >= 0)[:, None, :] & within_BIJ


def _attend(queries, keys, window: int | None, dropout: Callable[[jax.Array], jax.Array]):
    """Attention of some queries to some keys.

    Args:
      queries: q [B, I, H, C] and positions [B, I].
      keys: keys and values [B, H, J, C], positions [B, J], and logarithms of sizes [B, J] or None.

    Returns:
      output [B, I, H * C], attention that each key receives [B, J], and how many keys each query
      sees, which are as many as see it: int32 [B, I].
    """
    (q_BIHC, queries_BI), (keys_BHJC, values_BHJC, keys_BJ, log_sizes_BJ) = queries, keys
    seen_BIJ = near(queries_BI, keys_BJ, window)
    bias_B11J = None if log_sizes_BJ is None else log_sizes_BJ[:, None, None, :]
    weights_BHIJ, totals_BHI1 = attention_weights(q_BIHC, keys_BHJC, seen_BIJ, bias_B11J)
    received_BJ = attention_received(weights_BHIJ, queries_BI >= 0, totals_BHI1)
    heads_BIE = attend(dropout(weights_BHIJ), totals_BHI1, values_BHJC)
    return heads_BIE, received_BJ, seen_BIJ.sum(axis=2, dtype=jnp.int32)


def _in_blocks(queries, keys, window: int | None, dropout, block: int):
    """As `_attend`, of as many queries as keys; their activations are computed again for gradients.

    Positions ascend from slot to slot, whatever was removed and wherever nothing stands: what lies
    within a window of positions lies within as many slots.
    """
    batch, length = queries[1].shape
    num_blocks = -(-length // block)
    spare = num_blocks * block - length
    is_band = window is not None and block + 2 * window < length
    side = window if is_band else 0
    width = block + 2 * side if is_band else length
    queries = _padded(queries, 0, spare, axes=(1, 1))
    if is_band:
        keys = _padded(keys, side, spare + side, axes=(2, 2, 1, 1))

    def of_block(n: jax.Array):
        start = n * block
        near_keys = _slots(keys, start, width, axes=(2, 2, 1, 1)) if is_band else keys
        some = _slots(queries, start, block, axes=(1, 1))
        return _attend(some, near_keys, window, partial(dropout, n))

    every_N = jnp.arange(num_blocks, dtype=jnp.int32)
    heads_NBIE, received_NBJ, viewers_NBI = jax.lax.map(
        jax.checkpoint(of_block, prevent_cse=False), every_N
    )
    heads_BLE, viewers_BL = (
        jnp.moveaxis(x, 0, 1).reshape(batch, num_blocks * block, *x.shape[3:])[:, :length]
        for x in (heads_NBIE, viewers_NBI)
    )
    if not is_band:
        return heads_BLE, received_NBJ.sum(axis=0), viewers_BL
    slots_NJ = (every_N * block)[:, None] + jnp.arange(width, dtype=jnp.int32)[None, :]
    received_BS = jnp.zeros((batch, length + spare + 2 * side), jnp.float32)
    received_BS = received_BS.at[:, slots_NJ].add(jnp.moveaxis(received_NBJ, 0, 1))
    return heads_BLE, received_BS[:, side : side + length], viewers_BL


def _padded(arrays, before: int, after: int, axes: tuple[int, ...]):
    """`arrays` with that many empty slots along their axes: zeros, of positions -1."""

    def pad(x, axis: int):
        wide = [(0, 0)] * x.ndim
        wide[axis] = (before, after)
        return jnp.pad(x, wide, constant_values=-1 if x.dtype == jnp.int32 else 0)

    return tuple(x if x is None else pad(x, axis) for x, axis in zip(arrays, axes, strict=True))


def _slots(arrays, start: jax.Array, width: int, axes: tuple[int, ...]):
    cut = jax.lax.dynamic_slice_in_dim
    return tuple(
        x if x is None else cut(x, start, width, axis) for x, axis in zip(arrays, axes, strict=True)
    )
