"""Causal attention against a cache of keys and values, in blocks of queries.

A position here is counted from the first valid token of its row; -1 marks an empty slot. In a
prompt the slots ascend by position and the empty ones are last, so a block of queries never looks
at the slots behind it.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.layers.attention import attend, attention_weights

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


def attend_cached(
    q_BIHC: jax.Array, positions_BI: jax.Array, cache: LayerCache, ahead: int, dropout: Callable
) -> jax.Array:
    """Attention output [B, I, H * C]; the i-th query stands at most at slot i + ahead."""
    out = []
    for rows, num_keys in blocks(q_BIHC.shape[1], cache.keys.shape[2], ahead):
        seen_BIJ = sees(positions_BI[:, rows], cache.positions[:, :num_keys])
        keys, values = cache.keys[:, :, :num_keys], cache.values[:, :, :num_keys]
        weights_BHIJ, totals_BHI1 = attention_weights(q_BIHC[:, rows], keys, seen_BIJ)
        out.append(attend(dropout(weights_BHIJ), totals_BHI1, values))
    return jnp.concatenate(out, axis=1)


def blocks(num_queries: int, num_keys: int, ahead: int) -> Iterator[tuple[slice, int]]:
    """(queries of a block, number of slots that they can see).

    Args:
      ahead: the i-th query stands at most at slot i + ahead: of the last I of J slots that is
        J - I, of kept ones the number of those removed.
    """
    for start in range(0, num_queries, BLOCK):
        stop = min(start + BLOCK, num_queries)
        yield slice(start, stop), min(num_keys, stop + ahead)
