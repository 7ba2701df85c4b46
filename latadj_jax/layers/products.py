"""Products of arrays, summed in float32, with gradients of their own."""

import functools

import jax
import jax.numpy as jnp

from latadj_jax.devices.mesh import varying_alike


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
    # long on a CPU (docs/training_cost.md).
    a, b = arrays
    of_a, of_b, of_out = spec.replace("->", ",").split(",")
    gradient = gradient.astype(a.dtype)
    gradient_a = _summed_wide(f"{of_out},{of_b}->{of_a}", gradient, b)
    gradient_b = _summed_wide(f"{of_a},{of_out}->{of_b}", a, gradient)
    return gradient_a.astype(a.dtype), gradient_b.astype(b.dtype)


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)
