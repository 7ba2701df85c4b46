"""Norms, computed in float32."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.layers.named import named


class LayerNorm(nn.Module):
    """Layer norm in float32, returned in the dtype that came in."""

    eps: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        width = x_BLD.shape[-1:]
        scale_D = self.param("scale", nn.initializers.ones, width, jnp.float32).astype(jnp.float32)
        wide_BLD, bias_D = x_BLD.astype(jnp.float32), jnp.zeros(width, jnp.float32)
        if self.use_bias:
            bias_D = self.param("bias", nn.initializers.zeros, width, jnp.float32)
        return layer_norm(wide_BLD, scale_D, bias_D.astype(jnp.float32), self.eps).astype(
            x_BLD.dtype
        )


@named()
def layer_norm(x_BLD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, eps: float) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias, float32.

    Source: Ba et al., arXiv 1607.06450.
    """
    centred_BLD = x_BLD - x_BLD.mean(axis=-1, keepdims=True)
    variance_BL1 = jnp.square(centred_BLD).mean(axis=-1, keepdims=True)
    normed_BLD = centred_BLD * jax.lax.rsqrt(variance_BL1 + eps)
    return normed_BLD * wide_like(scale_D, x_BLD) + wide_like(bias_D, x_BLD)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32, returned in the dtype that came in.

    Source: Zhang and Sennrich, arXiv 1910.07467.

    Attributes:
      above: what the scale that is stored lies above: 1 in Gemma.
    """

    eps: float
    above: float = 0.0

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        init = nn.initializers.constant(1.0 - self.above)
        scale_D = self.param("scale", init, x_BLD.shape[-1:], jnp.float32)
        scale_D = scale_D.astype(jnp.float32) + self.above
        wide_BLD = x_BLD.astype(jnp.float32)
        square_BL1 = jnp.square(wide_BLD).mean(axis=-1, keepdims=True)
        normed_BLD = wide_BLD * jax.lax.rsqrt(square_BL1 + self.eps)
        return (normed_BLD * wide_like(scale_D, x_BLD)).astype(x_BLD.dtype)


def unit_vectors(x_BLD: jax.Array) -> jax.Array:
    """The same directions of length 1, in the dtype that came in; their products are cosines."""
    wide_BLD = x_BLD.astype(jnp.float32)
    square_BL1 = jnp.square(wide_BLD).sum(axis=-1, keepdims=True)
    return (wide_BLD * jax.lax.rsqrt(jnp.maximum(square_BL1, 1e-12))).astype(x_BLD.dtype)


def wide_like(x_D: jax.Array, like: jax.Array) -> jax.Array:
    """`x` with the axes of `like` in front, to broadcast by intent."""
    return x_D.reshape(*[1] * (like.ndim - 1), -1)
