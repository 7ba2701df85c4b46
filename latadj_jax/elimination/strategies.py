"""What word-vectors are ranked by: who stays when some must go.

A strategy names the ranking. "score" is the paper's; the others are for comparison, or for the
prompts of causal language models, where nothing ranks as well in every layer.
"""

import jax
import jax.numpy as jnp

CAUSAL_STRATEGIES = ("score", "recent", "window", "novelty", "recall", "tail", "random")
ENCODER_STRATEGIES = ("score", "tail", "random")  # the others favour the end of a prompt
STRATEGIES = (*CAUSAL_STRATEGIES, "merge")  # which is BERT's
FIRST = 4  # attention sinks (Xiao et al., arXiv 2309.17453): always kept by the causal strategies
WINDOW = 8  # queries at the end of a prompt that "window" asks
RECENT_SHARE = 0.75  # of what is kept, by "window" and "novelty"
ABOVE = 2.0**21  # any score and any position; a position on top of it is exact in float32
POOL = 5  # word-vectors over which novelty is averaged, so that phrases stay whole


def of_layer(strategy: str, layer: int, num_layers: int) -> str:
    """The ranking of one layer (from 0).

    "recall" is "novelty" in the first 60 % of the layers, which asks nothing of attention, and
    "window" in the others. docs/results.md compares it with "window" in all of them.
    """
    if strategy != "recall":
        return strategy
    return "novelty" if layer < 0.6 * num_layers else "window"


def ranking(
    strategy: str, scores_BL: jax.Array, positions_BL: jax.Array, key: jax.Array | None
) -> jax.Array:
    """What a strategy ranks word-vectors by, best first: the paper's score or a baseline.

    "score" and "merge" (see merging.py) keep the most attended, "recent" the last ones and the
    first four, "tail" the first ones, "random" any (one draw per row and slot of the buffer, so
    that it alone depends on the companions in the batch).
    """
    if strategy in ("score", "merge"):
        return scores_BL
    if strategy == "recent":
        return recency(positions_BL)
    if strategy == "tail":
        return -positions_BL.astype(jnp.float32)
    if strategy == "random":
        return jax.random.uniform(key, scores_BL.shape)
    raise ValueError(f"strategy {strategy!r} ranks nothing.")


def recency(positions_BL: jax.Array) -> jax.Array:
    """The later the better, but the first four best of all.

    Source: Xiao et al., arXiv 2309.17453 (attention sinks).
    """
    first_BL = (positions_BL >= 0) & (positions_BL < FIRST)
    return jnp.where(first_BL, ABOVE, positions_BL.astype(jnp.float32))


def with_recent(ranking_BL: jax.Array, positions_BL: jax.Array, count_B: jax.Array) -> jax.Array:
    """`ranking`, but the first four and the latest three quarters of what is kept stand above it.

    Args:
      positions_BL: ascending, -1 behind the last.
      count_B: int32, how many are kept.
    """
    valid_BL = positions_BL >= 0
    slots_1L = jnp.arange(positions_BL.shape[1], dtype=jnp.int32)[None, :]
    from_end_BL = valid_BL.sum(axis=1, dtype=jnp.int32)[:, None] - slots_1L  # 1 is the last
    num_recent_B1 = (count_B.astype(jnp.float32) * RECENT_SHARE).astype(jnp.int32)[:, None]
    above_BL = valid_BL & ((from_end_BL <= num_recent_B1) | (positions_BL < FIRST))
    return jnp.where(above_BL, recency(positions_BL) + ABOVE, ranking_BL)


def novelty(x_BLD: jax.Array, valid_BL: jax.Array) -> jax.Array:
    """How little each word-vector resembles the ones before and after it, averaged over five.

        c_j = cos(x_j, x_{j-1}) + cos(x_j, x_{j+1}),   novelty_j = -mean of c over j-2..j+2

    It asks nothing of attention, which in lower layers does not know yet what will be needed.

    Args:
      x_BLD: hidden states as they enter a layer; valid ones first.

    Returns:
      float32 [B, L].
    """
    x_BLD = x_BLD.astype(jnp.float32)
    length_BL1 = jnp.sqrt(jnp.square(x_BLD).sum(axis=-1, keepdims=True))
    unit_BLD = x_BLD / jnp.maximum(length_BL1, 1e-6)
    pairs_BL = (unit_BLD[:, 1:] * unit_BLD[:, :-1]).sum(axis=-1)  # j with j + 1
    pairs_BL = jnp.where(valid_BL[:, 1:], pairs_BL, -1.0)
    nothing_B1 = jnp.full_like(x_BLD[:, :1, 0], -1.0)
    before_BL = jnp.concatenate([nothing_B1, pairs_BL], axis=1)
    after_BL = jnp.concatenate([pairs_BL, nothing_B1], axis=1)
    alike_BL = jnp.where(valid_BL, before_BL + after_BL, 0.0)
    return -_around(alike_BL) / jnp.maximum(_around(valid_BL.astype(jnp.float32)), 1.0)


def _around(x_BL: jax.Array) -> jax.Array:
    """Sums over POOL neighbours."""
    return jax.lax.reduce_window(x_BL, 0.0, jax.lax.add, (1, POOL), (1, 1), "SAME")
