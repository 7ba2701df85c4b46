"""Causal attention against a cache of keys and values, in blocks of queries.

A position here is counted from the first valid token of its row; -1 marks an empty slot. In a
prompt the slots ascend by position and the empty ones are last, so a block of queries never looks
at the slots behind it; nor, where a layer sees a window only, at those that lie too far before it.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.layers.attention import attend, attention_weights

BLOCK = 256  # queries at a time, which look only at the keys that one of their block can see


@struct.dataclass
class LayerCache:
    """Keys and values that one layer's later queries see.

    Attributes:
      keys, values: [B, G, J, C]; G key-value heads, J slots.
      positions: int32 [B, J].
      window: how many positions a query sees, its own and those before it; None: all of the text.
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array
    window: int | None = struct.field(pytree_node=False, default=None)

    def with_room(self, slots: int) -> "LayerCache":
        """The same cache with that many empty slots at its end."""
        wide = ((0, 0), (0, 0), (0, slots), (0, 0))
        return self.replace(
            keys=jnp.pad(self.keys, wide),
            values=jnp.pad(self.values, wide),
            positions=jnp.pad(self.positions, ((0, 0), (0, slots)), constant_values=-1),
        )

    def write(self, new: "LayerCache", slot: jax.Array) -> "LayerCache":
        """`new` written over the slots from `slot` on."""
        update = jax.lax.dynamic_update_slice_in_dim
        return self.replace(
            keys=update(self.keys, new.keys, slot, axis=2),
            values=update(self.values, new.values, slot, axis=2),
            positions=update(self.positions, new.positions, slot, axis=1),
        )


def sees(queries_BI: jax.Array, keys_BJ: jax.Array, window: int | None = None) -> jax.Array:
    """Causal mask [B, I, J] by position, whatever slots the keys stand in.

    0 <= p_j,    p_i - window < p_j <= p_i
    """
    i_BI1, j_B1J = queries_BI[:, :, None], keys_BJ[:, None, :]
    seen_BIJ = (j_B1J >= 0) & (j_B1J <= i_BI1)
    return seen_BIJ if window is None else seen_BIJ & (j_B1J > i_BI1 - window)


def attend_cached(
    q_BIHC: jax.Array, positions_BI: jax.Array, cache: LayerCache, ahead: int, dropout: Callable
) -> jax.Array:
    """Attention output [B, I, H * C]; the i-th query stands at slot i to i + ahead."""
    out = []
    for rows, slots in blocks(q_BIHC.shape[1], cache.keys.shape[2], ahead, cache.window):
        seen_BIJ = sees(positions_BI[:, rows], cache.positions[:, slots], cache.window)
        keys, values = cache.keys[:, :, slots], cache.values[:, :, slots]
        weights_BHIJ, totals_BHI1 = attention_weights(q_BIHC[:, rows], keys, seen_BIJ)
        out.append(attend(dropout(weights_BHIJ), totals_BHI1, values))
    return jnp.concatenate(out, axis=1)


def blocks(
    num_queries: int, num_keys: int, ahead: int, window: int | None = None
) -> Iterator[tuple[slice, slice]]:
    """(queries of a block, slots that they can see).

    Args:
      ahead: the i-th query stands at slot i to i + ahead: of the last I of J slots that is J - I,
        of kept ones the number of those removed.
      window: what it sees are at most so many positions, and so many slots, up to its own.
    """
    for start in range(0, num_queries, BLOCK):
        stop = min(start + BLOCK, num_queries)
        first = 0 if window is None else max(0, start - window + 1)
        yield slice(start, stop), slice(first, min(num_keys, stop + ahead))
