"""Dense layers, embeddings, and layers whose activations are computed again."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import replicate
from latadj_jax.layers.norms import wide_like
from latadj_jax.layers.products import product


class Dense(nn.Module):
    """x W + b of `dtype`, summed in float32; given so, too, where it is `wide` (logits)."""

    features: int
    use_bias: bool = True
    wide: bool = False
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        kernel_DF = self.param(
            "kernel", self.kernel_init, (x_BLD.shape[-1], self.features), jnp.float32
        )
        rows = "BLMN"[: x_BLD.ndim - 1]
        spec = f"{rows}D,DF->{rows}F"
        out_BLF = product(spec, x_BLD.astype(self.dtype), kernel_DF.astype(self.dtype))
        if self.use_bias:
            bias_F = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            out_BLF += wide_like(bias_F.astype(jnp.float32), out_BLF)
        return out_BLF if self.wide else out_BLF.astype(self.dtype)


class Embed(nn.Embed):
    """An embedding table that every device gathers before it looks up: ids may be anywhere."""

    def __call__(self, ids: jax.Array) -> jax.Array:
        (table_VD,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        return jnp.take(replicate(table_VD), ids, axis=0)

    def attend(self, x_BLD: jax.Array) -> jax.Array:
        """The product of each row with the whole table, float32: logits over the vocabulary."""
        rows = "BLMN"[: x_BLD.ndim - 1]
        table_VD = self.embedding.astype(self.dtype)
        return product(f"{rows}D,VD->{rows}V", x_BLD.astype(self.dtype), table_VD)


def layer_class(of, remat: bool, *static: int):
    """The class of a layer, or one whose activations are computed again in the backward pass.

    Args:
      static: places of arguments that are no arrays, `self` being 0.
    """
    return nn.remat(of, static_argnums=static) if remat else of
