"""The attention of a causal decoder's layer, with the cut inside."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from latadj_jax.elimination.cut import Cut, Words, cut_words
from latadj_jax.elimination.eliminate import take
from latadj_jax.elimination.ranks import WINDOW
from latadj_jax.elimination.score import attention_received, per_viewer
from latadj_jax.layers.attention import attention_weights
from latadj_jax.layers.cached_attention import LayerCache, attend_cached, blocks, sees


def cut_and_attend(
    queries: Callable,
    normed_BLD: jax.Array,
    words: Words,
    new: LayerCache,
    cache: LayerCache | None,
    slot,
    cut: Cut | None,
    key: Callable[[], jax.Array],
    dropout: Callable,
):
    """The attention of one layer, with its cut.

    Args:
      queries: function of (normed, positions) that gives q_BLHC.
      normed_BLD: what queries are made of.
      words: what entered the layer; its hidden states are the residual branch.
      new: keys, values and positions of the same word-vectors.
      cache, slot: of the tokens before, where these are read on from a prompt: all stay.
      key: gives a random key, to a strategy that needs one.
      dropout: of attention probabilities.

    Returns:
      attention output [B, K, H * C], the words that are kept, scores_BL or None, and the cache.
    """
    q_BLHC = queries(normed_BLD, new.positions)
    if cache is not None:
        cache = cache.write(new, slot)
        ahead = cache.keys.shape[2] - new.positions.shape[1]  # they are at the end of the cache
        heads_BLE = attend_cached(q_BLHC, new.positions, cache, ahead, dropout)
        return heads_BLE, words, None, cache
    scores_BL = causal_scores(q_BLHC, new)
    offered = {
        "scores_BL": scores_BL,
        "asked_BL": lambda: asked_by_last(queries, normed_BLD, new),
        "keys_BLE": lambda: new.keys.swapaxes(1, 2).reshape(*normed_BLD.shape[:2], -1),
        "key": key,
    }
    kept, words = cut_words(cut, words, offered)
    if cut is None or "scores_BL" in cut.strategy.needs:
        q_BKHC = kept.queries(q_BLHC)
    else:  # ranked without them: what is removed never becomes a query
        q_BKHC = queries(kept.queries(normed_BLD), words.positions_BL)
    ahead = 0 if cut is None else cut.removed
    heads_BKE = attend_cached(q_BKHC, words.positions_BL, new, ahead, dropout)
    return heads_BKE, words, scores_BL, new


def asked_by_last(queries: Callable, normed_BLD: jax.Array, new: LayerCache) -> jax.Array:
    """Attention that the last WINDOW queries of each prompt give to each word-vector: [B, L]."""
    positions_BL = new.positions
    num_valid_B1 = (positions_BL >= 0).sum(axis=1, dtype=jnp.int32, keepdims=True)
    slots_BW = num_valid_B1 - 1 - jnp.arange(WINDOW, dtype=jnp.int32)[None, :]
    asked_BW, slots_BW = slots_BW >= 0, jnp.maximum(slots_BW, 0)
    asking_BW = take(positions_BL, slots_BW)
    q_BWHC = queries(take(normed_BLD, slots_BW), asking_BW)
    seen_BWL = sees(asking_BW, positions_BL, new.window)
    weights_BHWL, totals_BHW1 = attention_weights(q_BWHC, new.keys, seen_BWL)
    return attention_received(weights_BHWL, asked_BW, totals_BHW1)


def causal_scores(q_BLHC: jax.Array, new: LayerCache) -> jax.Array:
    """The Score Vector of a causal layer, computed in blocks of queries: float32 [B, L]."""
    length, positions_BL, window = q_BLHC.shape[1], new.positions, new.window
    received_BL = jnp.zeros(positions_BL.shape, jnp.float32)
    for rows, slots in blocks(length, length, 0, window):
        asking_BI = positions_BL[:, rows]
        seen_BIJ = sees(asking_BI, positions_BL[:, slots], window)
        weights_BHIJ, totals_BHI1 = attention_weights(
            q_BLHC[:, rows], new.keys[:, :, slots], seen_BIJ
        )
        block_BJ = attention_received(weights_BHIJ, asking_BI >= 0, totals_BHI1)
        received_BL += jnp.pad(block_BJ, ((0, 0), (slots.start, length - slots.stop)))
    viewers_BL = None if window is None else viewers(positions_BL, window)
    return per_viewer(received_BL, positions_BL >= 0, viewers_BL)


def viewers(positions_BL: jax.Array, window: int) -> jax.Array:
    """How many of the word-vectors see each: int32 [B, L]; never stored pair by pair."""
    return sees(positions_BL, positions_BL, window).sum(axis=1, dtype=jnp.int32)
