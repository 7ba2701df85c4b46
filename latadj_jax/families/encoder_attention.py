"""The attention of an encoder's layer that may be local, and the Score Vector that comes of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from latadj_jax.elimination.cut import Words
from latadj_jax.elimination.score import attention_received, mean_of_viewers
from latadj_jax.layers.attention import attend, attention_weights


def attend_near(
    q_BLHC: jax.Array,
    k_BLHC: jax.Array,
    v_BLHC: jax.Array,
    words: Words,
    window: int | None,
    dropout: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Attention output [B, L, H * C] of all that entered a layer, and its Score Vector [B, L].

    Merged word-vectors, which stand for several tokens, are attended to as so many.

    Args:
      words: what entered; their positions ascend from slot to slot.
      window: the greatest distance of two positions that see each other; None: all do.
      dropout: of attention weights.
    """
    positions_BL, valid_BL = words.positions_BL, words.valid_BL
    seen_BLL = near(positions_BL, positions_BL, window)
    bias_B11L = None if words.sizes_BL is None else jnp.log(words.sizes_BL)[:, None, None, :]
    weights_BHLL, totals_BHL1 = attention_weights(
        q_BLHC, k_BLHC.swapaxes(1, 2), seen_BLL, bias_B11L
    )
    heads_BLE = attend(dropout(weights_BHLL), totals_BHL1, v_BLHC.swapaxes(1, 2))
    received_BL = attention_received(weights_BHLL, valid_BL, totals_BHL1)
    return heads_BLE, mean_of_viewers(received_BL, seen_BLL.sum(axis=2, dtype=jnp.int32), valid_BL)


def near(queries_BI: jax.Array, keys_BJ: jax.Array, window: int | None) -> jax.Array:
    """Which keys each query sees, by position: bool [B, I, J]; an empty slot is seen by none."""
    seen_B1J = (keys_BJ >= 0)[:, None, :]
    distances_BIJ = jnp.abs(keys_BJ[:, None, :] - queries_BI[:, :, None])
    within = distances_BIJ >= 0 if window is None else distances_BIJ <= window
    return seen_B1J & within
