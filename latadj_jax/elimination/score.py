"""The Score Vector: how much attention each word-vector receives."""

import jax
import jax.numpy as jnp


def score_vector(weights_BHLL: jax.Array, valid_BL: jax.Array, totals_BHL1=1.0) -> jax.Array:
    """Attention that each word-vector receives (Score Vector, SV), 1 on average.

        SV[b, j] = sum_i valid[b, i] * mean_h P[b, h, i, j],    P = weights / totals

    Padding neither votes (its queries are left out) nor scores (no query attends to it).

        P of one head, rows are queries       SV of three valid word-vectors
            0.50 0.25 0.25
            0.70 0.20 0.10              ->    1.80 0.65 0.55
            0.60 0.20 0.20

    Args:
      weights_BHLL: attention weights, queries by keys, 0 at keys that are not valid.
      valid_BL: bool, True where a word-vector is present.
      totals_BHL1: the sum of each row; 1 where the weights are probabilities.

    Returns:
      float32 [B, L]; its mean over valid positions is 1, and it is 0 elsewhere.

    Source: Kachuee and Sharifkhani, arXiv 2201.03327, section 3.
    """
    return jnp.where(valid_BL, attention_received(weights_BHLL, valid_BL, totals_BHL1), 0.0)


def attention_received(weights_BHIJ: jax.Array, valid_BI: jax.Array, totals_BHI1=1.0) -> jax.Array:
    """Attention of some queries that each key receives, mean over heads: float32 [B, J]."""
    batch, heads, queries, keys = weights_BHIJ.shape
    # One product over heads and queries: a mean over heads first is far slower on a CPU (jax 0.10).
    votes_BHI1 = valid_BI.astype(jnp.float32)[:, None, :, None] / (heads * totals_BHI1)
    votes_BN = jnp.broadcast_to(votes_BHI1, (batch, heads, queries, 1)).reshape(batch, -1)
    weights_BNJ = weights_BHIJ.astype(jnp.float32).reshape(batch, -1, keys)
    return jnp.einsum("BNJ,BN->BJ", weights_BNJ, votes_BN, precision=jax.lax.Precision.HIGHEST)


def per_viewer(
    received_BL: jax.Array, valid_BL: jax.Array, viewers_BL: jax.Array | None = None
) -> jax.Array:
    """The Score Vector where a query sees no later key: each column's mean over who sees it.

        SV[b, j] = received[b, j] / |{i >= j : valid[b, i]}|

        P of one head, rows are queries       SV of three valid word-vectors
            1.00
            0.70 0.30                   ->    0.80 0.25 0.10
            0.70 0.20 0.10

    Args:
      received_BL: `attention_received` from all valid queries, in the order of the text.
      viewers_BL: int32, how many valid queries see each column, where these are not all of i >= j:
        a query of a layer with local attention sees no key that is further back than its window.

    Returns:
      float32 [B, L], 0 where nothing is valid.

    Source: arXiv 2201.03327, eq. (8).
    """
    if viewers_BL is None:
        viewers_BL = jnp.cumsum(valid_BL[:, ::-1], axis=1, dtype=jnp.int32)[:, ::-1]
    mean_BL = received_BL / jnp.maximum(viewers_BL, 1).astype(jnp.float32)
    return jnp.where(valid_BL, mean_BL, 0.0)


def mean_of_viewers(
    received_BL: jax.Array, viewers_BL: jax.Array, valid_BL: jax.Array
) -> jax.Array:
    """The Score Vector where attention is local: each column's mean over who sees it, 1 on average.

        SV[b, j] = a_j / mean_j a_j,    a_j = received[b, j] / viewers[b, j]

    Where all see all it is `score_vector`. Without the division those at the ends of a text, which
    fewer see, would be removed first.

        P of one head, window 1               a_j               SV of three valid word-vectors
            0.50 0.50
            0.60 0.20 0.20              ->    0.55 0.50 0.20    1.32 1.20 0.48
                 0.80 0.20

    Args:
      received_BL: `attention_received` from all valid queries.
      viewers_BL: int32, how many valid queries see each column.

    Returns:
      float32 [B, L]; its mean over valid positions is 1, and it is 0 elsewhere.
    """
    mean_BL = received_BL / jnp.maximum(viewers_BL, 1).astype(jnp.float32)
    mean_BL = jnp.where(valid_BL, mean_BL, 0.0)
    count_B1 = valid_BL.sum(axis=1, keepdims=True, dtype=jnp.float32)
    return mean_BL * (count_B1 / mean_BL.sum(axis=1, keepdims=True))


def attention_context_contribution(scores_BL: jax.Array, valid_BL: jax.Array) -> jax.Array:
    """ACC: the median of the Score Vector over valid word-vectors.

    The Score Vector's mean is always 1, so a low median says that few word-vectors receive most of
    the attention, and the others can go.

    Returns:
      float32 [B].
    """
    return jnp.nanmedian(jnp.where(valid_BL, scores_BL, jnp.nan), axis=1)
