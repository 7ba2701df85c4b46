"""Attention that hands out its probabilities."""

import jax
import jax.numpy as jnp

from latadj_jax.layers.named import named
from latadj_jax.layers.products import product


def attention_weights(q_BIHC, keys_BGJC, mask_BIJ: jax.Array, bias_BHIJ=None, scale=None):
    """Attention before its division: weights, and the totals of their rows.

        P = weights / totals = softmax(Q K^T / sqrt(C) + bias)

    Whoever reads P divides what it makes of the weights, so that nothing I by J is divided.

    Args:
      q_BIHC: queries of H heads.
      keys_BGJC: of G key-value heads, each of which serves H / G query heads.
      mask_BIJ: bool, True where the key is seen; axes of size 1 are broadcast.
      bias_BHIJ: float32, added to the logits; an axis B of size 1 is broadcast.
      scale: of the logits, in place of 1 / sqrt(C).

    Returns:
      float32 [B, H, I, J], at most 1, and [B, H, I, 1], at least 1; a query that sees nothing gets
      rows without meaning, but finite.
    """
    batch, queries, heads, width = q_BIHC.shape
    groups = keys_BGJC.shape[1]
    # The heads of a group read the same keys: one product for all of them.
    scale = width**-0.5 if scale is None else scale
    q_BGNC = (q_BIHC * scale).swapaxes(1, 2).reshape(batch, groups, -1, width)
    logits_BGNJ = product("BGNC,BGJC->BGNJ", q_BGNC, keys_BGJC)
    logits_BHIJ = logits_BGNJ.reshape(batch, heads, queries, -1)
    if bias_BHIJ is not None:
        logits_BHIJ += bias_BHIJ
    logits_BHIJ = jnp.where(mask_BIJ[:, None], logits_BHIJ, jnp.finfo(jnp.float32).min)
    return exp_and_totals(logits_BHIJ)


@named()
def exp_and_totals(logits_BHIJ: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A softmax before its division: exp(x - max of the row), and the totals of the rows."""
    highest_BHI1 = jax.lax.stop_gradient(logits_BHIJ.max(axis=-1, keepdims=True))
    weights_BHIJ = jnp.exp(logits_BHIJ - highest_BHI1)
    return weights_BHIJ, weights_BHIJ.sum(axis=-1, keepdims=True)


def attend(weights_BHIJ: jax.Array, totals_BHI1: jax.Array, values_BGJC: jax.Array) -> jax.Array:
    """Attention output P V, [B, I, H * C]; fewer queries than keys where rows were cut."""
    batch, groups, keys, width = values_BGJC.shape
    weights_BGNJ = weights_BHIJ.astype(values_BGJC.dtype).reshape(batch, groups, -1, keys)
    sums_BGNC = product("BGNJ,BGJC->BGNC", weights_BGNJ, values_BGJC)
    out_BHIC = sums_BGNC.reshape(*weights_BHIJ.shape[:3], width) / totals_BHI1
    out_BIHC = out_BHIC.astype(values_BGJC.dtype).swapaxes(1, 2)
    return out_BIHC.reshape(*out_BIHC.shape[:2], -1)


def split_heads(x_BLD: jax.Array, num_heads: int) -> jax.Array:
    return x_BLD.reshape(*x_BLD.shape[:2], num_heads, -1)
