"""Relative position bias (T5, MPNet): one learned number per head and bucket of distances.

It depends on the distance between two tokens of the text, so word-vectors that remain keep their
original positions.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def buckets(distances: np.ndarray, num_buckets: int, max_distance: int, both_ways: bool):
    """Bucket of each distance (key minus query): int32, in 0..num_buckets-1.

    Half of the buckets of a direction are for one distance each, the others for ranges that grow
    as its logarithm, the last for `max_distance` and more. A decoder (not `both_ways`) looks back
    only, and counts what is ahead as distance 0.

    Source: Raffel et al., arXiv 1910.10683, section 2.1.
    """
    first = np.zeros(distances.shape, np.int32)
    if both_ways:
        num_buckets //= 2
        first = np.where(distances > 0, num_buckets, 0)
        far = np.abs(distances)
    else:
        far = np.maximum(-distances, 0)
    exact = num_buckets // 2
    # In float32, as the checkpoints were trained: at a bucket's edge rounding decides.
    ratio = np.maximum(far, 1).astype(np.float32) / np.float32(exact)
    step = (
        np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(num_buckets - exact)
    )
    ranged = np.minimum(exact + step.astype(np.int32), num_buckets - 1)
    return (first + np.where(far < exact, far, ranged)).astype(np.int32)


class RelativeBias(nn.Module):
    """Bias of the attention logits between original positions."""

    num_buckets: int
    max_distance: int
    num_heads: int
    both_ways: bool
    dtype: jnp.dtype
    std: float = 1.0  # of fresh ones; for T5 wider than Hugging Face's, see `model.random_params`

    @nn.compact
    def __call__(self, queries_BI: jax.Array, keys_BJ: jax.Array) -> jax.Array:
        """Bias [B, H, I, J]; positions under 0 (empty slots) get one without meaning."""
        init = nn.initializers.normal(self.std)
        table_NH = self.param("embedding", init, (self.num_buckets, self.num_heads), jnp.float32)
        far = self.max_distance  # what is farther is in the last bucket, too
        bucket_N = buckets(np.arange(-far, far + 1), self.num_buckets, far, self.both_ways)
        bias_NH = table_NH[bucket_N].astype(self.dtype)
        distance_BIJ = jnp.maximum(keys_BJ, 0)[:, None, :] - jnp.maximum(queries_BI, 0)[:, :, None]
        return jnp.moveaxis(bias_NH[jnp.clip(distance_BIJ, -far, far) + far], -1, 1)
