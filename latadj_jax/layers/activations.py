"""Activation functions by their Hugging Face names."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from latadj_jax.layers.named import named


@named()
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
