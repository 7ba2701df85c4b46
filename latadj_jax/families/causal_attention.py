"""The attention of a causal decoder's layer: against a cache, in blocks, with the cut inside.

A position here is counted from the first valid token of its row; -1 marks an empty slot. In a
prompt the slots ascend by position and the empty ones are last, so a block of queries never looks
at the slots behind it.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.elimination.eliminate import Cut, select, take, take_positions
from latadj_jax.elimination.score import attention_received, per_viewer
from latadj_jax.elimination.strategies import WINDOW, novelty, ranking, with_recent
from latadj_jax.layers import attention

BLOCK = 256  # queries at a time, which look only at the keys up to their own block's end


@struct.dataclass
class LayerCache:
    """Keys and values that one layer's later queries see.

    Attributes:
      keys, values: [B, G, J, C]; G key-value heads, J slots.
      positions: int32 [B, J].
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array

    def with_room(self, slots: int) -> "LayerCache":
        """The same cache with that many empty slots at its end."""
        wide = ((0, 0), (0, 0), (0, slots), (0, 0))
        return LayerCache(
            jnp.pad(self.keys, wide),
            jnp.pad(self.values, wide),
            jnp.pad(self.positions, ((0, 0), (0, slots)), constant_values=-1),
        )

    def write(self, new: "LayerCache", slot: jax.Array) -> "LayerCache":
        """`new` written over the slots from `slot` on."""
        update = jax.lax.dynamic_update_slice_in_dim
        return LayerCache(
            update(self.keys, new.keys, slot, axis=2),
            update(self.values, new.values, slot, axis=2),
            update(self.positions, new.positions, slot, axis=1),
        )


def sees(queries_BI: jax.Array, keys_BJ: jax.Array) -> jax.Array:
    """Causal mask [B, I, J] by position, whatever slots the keys stand in."""
    return (keys_BJ >= 0)[:, None, :] & (keys_BJ[:, None, :] <= queries_BI[:, :, None])


def cut_and_attend(queries, normed_BLD, x_BLD, new: LayerCache, cache, slot, cut, key, dropout):
    """The attention of one layer, with its cut: what it keeps of what entered.

    Args:
      queries: function of (normed, positions) that gives q_BLHC.
      normed_BLD, x_BLD: what the queries are made of, and the residual branch.
      new: keys, values and positions of the same word-vectors.
      cache, slot: of the tokens before, where these are read on from a prompt: all stay.
      dropout: of attention probabilities.

    Returns:
      attention output [B, K, H * C], x_BKD, positions_BK, scores_BL or None, and the cache.
    """
    if cache is not None:
        cache = cache.write(new, slot)
        ahead = cache.keys.shape[2] - new.positions.shape[1]  # they are at the end of the cache
        q_BLHC = queries(normed_BLD, new.positions)
        heads_BLE = attend(q_BLHC, new.positions, cache, ahead, dropout)
        return heads_BLE, x_BLD, new.positions, None, cache
    q_BLHC = queries(normed_BLD, new.positions)
    scores_BL = causal_scores(q_BLHC, new)
    if cut is None:
        return attend(q_BLHC, new.positions, new, 0, dropout), x_BLD, new.positions, scores_BL, new
    keep_BK = choose(cut, scores_BL, queries, normed_BLD, x_BLD, new, key)
    positions_BK = take_positions(new.positions, keep_BK)
    if cut.strategy == "score":
        q_BKHC = take(q_BLHC, keep_BK)
    else:  # ranked without them: what is removed never becomes a query
        q_BKHC = queries(take(normed_BLD, keep_BK), positions_BK)
    heads_BKE = attend(q_BKHC, positions_BK, new, cut.removed, dropout)
    return heads_BKE, take(x_BLD, keep_BK), positions_BK, scores_BL, new


def choose(cut: Cut, scores_BL, queries, normed_BLD, x_BLD, new: LayerCache, key) -> jax.Array:
    """Slots of the word-vectors that a layer keeps, [B, K].

    The last valid token is protected: what follows the prompt is read off it.
    """
    positions_BL, valid_BL = new.positions, new.positions >= 0
    if cut.strategy == "window":
        num_valid_B1 = valid_BL.sum(axis=1, dtype=jnp.int32, keepdims=True)
        slots_BW = num_valid_B1 - 1 - jnp.arange(WINDOW, dtype=jnp.int32)[None, :]
        asked_BW, slots_BW = slots_BW >= 0, jnp.maximum(slots_BW, 0)
        asking_BW = take(positions_BL, slots_BW)
        q_BWHC = queries(take(normed_BLD, slots_BW), asking_BW)
        weights_BHWL, totals_BHW1 = attention.attention_weights(
            q_BWHC, new.keys, sees(asking_BW, positions_BL)
        )
        # What the last queries attend to, as in SnapKV (Li et al., arXiv 2404.14469).
        scores_BL = attention_received(weights_BHWL, asked_BW, totals_BHW1)
        ranking_BL = with_recent(scores_BL, positions_BL, cut.count_B)
    elif cut.strategy == "novelty":
        ranking_BL = with_recent(novelty(x_BLD, valid_BL), positions_BL, cut.count_B)
    else:
        ranking_BL = ranking(cut.strategy, scores_BL, positions_BL, key)
    protected_BL = positions_BL == jnp.max(positions_BL, axis=1, keepdims=True)
    return select(ranking_BL, valid_BL, protected_BL, cut.count_B, cut.size)


def attend(
    q_BIHC: jax.Array, positions_BI: jax.Array, cache: LayerCache, ahead: int, dropout: Callable
) -> jax.Array:
    """Attention output [B, I, H * C]; the i-th query stands at most at slot i + ahead."""
    out = []
    for rows, num_keys in blocks(q_BIHC.shape[1], cache.keys.shape[2], ahead):
        seen_BIJ = sees(positions_BI[:, rows], cache.positions[:, :num_keys])
        keys, values = cache.keys[:, :, :num_keys], cache.values[:, :, :num_keys]
        weights_BHIJ, totals_BHI1 = attention.attention_weights(q_BIHC[:, rows], keys, seen_BIJ)
        out.append(attention.attend(dropout(weights_BHIJ), totals_BHI1, values))
    return jnp.concatenate(out, axis=1)


def causal_scores(q_BLHC: jax.Array, new: LayerCache) -> jax.Array:
    """The Score Vector of a causal layer, computed in blocks of queries: float32 [B, L]."""
    length = q_BLHC.shape[1]
    received_BL = jnp.zeros(new.positions.shape, jnp.float32)
    for rows, num_keys in blocks(length, length, 0):
        asking_BI = new.positions[:, rows]
        seen_BIJ = sees(asking_BI, new.positions[:, :num_keys])
        weights_BHIJ, totals_BHI1 = attention.attention_weights(
            q_BLHC[:, rows], new.keys[:, :, :num_keys], seen_BIJ
        )
        block_BJ = attention_received(weights_BHIJ, asking_BI >= 0, totals_BHI1)
        received_BL += jnp.pad(block_BJ, ((0, 0), (0, length - num_keys)))
    return per_viewer(received_BL, new.positions >= 0)


def blocks(num_queries: int, num_keys: int, ahead: int) -> Iterator[tuple[slice, int]]:
    """(queries of a block, number of slots that they can see).

    Args:
      ahead: the i-th query stands at most at slot i + ahead: of the last I of J slots that is
        J - I, of kept ones the number of those removed.
    """
    for start in range(0, num_queries, BLOCK):
        stop = min(start + BLOCK, num_queries)
        yield slice(start, stop), min(num_keys, stop + ahead)
