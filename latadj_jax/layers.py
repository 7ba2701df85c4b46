"""What the families share: attention that hands out its probabilities, norms, feed-forward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from latadj_jax.mesh import gathered, varying_alike


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function at x, in float32, in the dtype that came in.

    By erf, as torch has it: jax.nn.gelu's erfc computes twice as much.

    Source: Hendrycks and Gimpel, arXiv 1606.08415.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * np.float32(0.5**0.5)))).astype(x.dtype)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_python": gelu,
    **dict.fromkeys(("gelu_fast", "gelu_new", "gelu_pytorch_tanh"), nn.gelu),  # by tanh
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
    **dict.fromkeys(("silu", "swish"), nn.silu),
    "tanh": nn.tanh,
}


def product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """`einsum` of two arrays of one dtype, summed and returned in float32.

    float32 ones are multiplied with all their bits, on a TPU or GPU too, where JAX would by default
    round them to bfloat16 or TF32; unless `jax_default_matmul_precision` is set, which then holds.

    Its gradients are products in the arrays' own dtype: of bfloat16 ones, autodiff's would be of a
    float32 array with a bfloat16 one, at half the rate on a CPU, and less on a TPU. (jax.jvp
    therefore works for float32 models only.)

    Args:
      spec: without an ellipsis; each index stands in two of the three terms at least.
    """
    if a.dtype == jnp.float32:
        precision = None if jax.config.jax_default_matmul_precision else jax.lax.Precision.HIGHEST
        return jnp.einsum(spec, a, b, precision=precision)
    return _narrow_product(spec, *varying_alike(a, b))  # or gradients would not be summed


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow_product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return _summed_wide(spec, a, b)


_summed_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _narrow_product_forward(spec, a, b):
    return _narrow_product(spec, a, b), (a, b)


def _narrow_product_backward(spec, arrays, gradient):
    # Spelt out: those of autodiff are transposed, which makes a training step more than twice as
    # long on a CPU (docs/scaling.md).
    a, b = arrays
    of_a, of_b, of_out = spec.replace("->", ",").split(",")
    gradient = gradient.astype(a.dtype)
    gradient_a = _summed_wide(f"{of_out},{of_b}->{of_a}", gradient, b)
    gradient_b = _summed_wide(f"{of_a},{of_out}->{of_b}", a, gradient)
    return gradient_a.astype(a.dtype), gradient_b.astype(b.dtype)


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)


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
            out_BLF += _wide(bias_F.astype(jnp.float32), out_BLF)
        return out_BLF if self.wide else out_BLF.astype(self.dtype)


class Embed(nn.Embed):
    """An embedding table that every device gathers before it looks up: ids may be anywhere."""

    def __call__(self, ids: jax.Array) -> jax.Array:
        (table_VD,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        return jnp.take(gathered(table_VD), ids, axis=0)

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


def split_heads(x_BLD: jax.Array, num_heads: int) -> jax.Array:
    return x_BLD.reshape(*x_BLD.shape[:2], num_heads, -1)


class LayerNorm(nn.Module):
    """Layer norm in float32, returned in the dtype that came in."""

    eps: float

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        width = x_BLD.shape[-1:]
        scale_D = self.param("scale", nn.initializers.ones, width, jnp.float32).astype(jnp.float32)
        bias_D = self.param("bias", nn.initializers.zeros, width, jnp.float32).astype(jnp.float32)
        wide_BLD = x_BLD.astype(jnp.float32)
        centred_BLD = wide_BLD - wide_BLD.mean(axis=-1, keepdims=True)
        variance_BL1 = jnp.square(centred_BLD).mean(axis=-1, keepdims=True)
        normed_BLD = centred_BLD * jax.lax.rsqrt(variance_BL1 + self.eps)
        return (normed_BLD * _wide(scale_D, x_BLD) + _wide(bias_D, x_BLD)).astype(x_BLD.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32, returned in the dtype that came in.

    Source: Zhang and Sennrich, arXiv 1910.07467.
    """

    eps: float

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        scale_D = self.param("scale", nn.initializers.ones, x_BLD.shape[-1:], jnp.float32)
        scale_D = scale_D.astype(jnp.float32)
        wide_BLD = x_BLD.astype(jnp.float32)
        square_BL1 = jnp.square(wide_BLD).mean(axis=-1, keepdims=True)
        normed_BLD = wide_BLD * jax.lax.rsqrt(square_BL1 + self.eps)
        return (normed_BLD * _wide(scale_D, x_BLD)).astype(x_BLD.dtype)


def _wide(x_D: jax.Array, like: jax.Array) -> jax.Array:
    """`x` with the axes of `like` in front, to broadcast by intent."""
    return x_D.reshape(*[1] * (like.ndim - 1), -1)


class Dropout(nn.Module):
    """Dropout whose masks cost a quarter of the random bits: one byte decides one element.

    The rate is rounded to 1/256 and the scale follows the rounded rate, so the expectation is
    exact. Needs the rng stream "dropout" when `train`.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        threshold = min(round(self.rate * 256), 255)
        if not train or threshold == 0:
            return x
        keep = random_bytes(self.make_rng("dropout"), x.shape) >= jnp.uint8(threshold)
        return jnp.where(keep, x * (256 / (256 - threshold)), jnp.zeros_like(x))


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint8 of `shape`, four from each 32-bit word."""
    *leading, last = shape
    words = jax.random.bits(key, (*leading, -(-last // 4)), jnp.uint32)
    octets = jax.lax.bitcast_convert_type(words, jnp.uint8)
    return octets.reshape(*leading, -1)[..., :last]
