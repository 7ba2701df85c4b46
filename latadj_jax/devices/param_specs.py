"""Which axis of each parameter is split over which axis of the mesh: one table of patterns.

"fsdp" splits the axis that a product sums over (or what it makes), "tensor" the heads and the width
of the feed-forward, so that a layer's second product ends with one sum over devices. An axis that a
mesh does not divide stays whole.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from latadj_jax.devices.mesh import current_mesh

INTO = P("fsdp", "tensor")  # a kernel whose output is split: heads, feed-forward
INTO_BIAS = P("tensor")
OUT_OF = P("tensor", "fsdp")  # a kernel whose input is split
TABLE = P("tensor", "fsdp")  # embeddings: words by width
# All families use these names. Parameters that no pattern names are copied to every device: norms,
# biases of what is whole, relative positions, classifiers of some labels.
PATTERNS = {
    r"((decoder_)?word|position|token_type|shared)/embedding": TABLE,
    r"((cross|position)_)?(query|key|value)/kernel": INTO,
    r"(ff_in|wide|gate|up|head)/kernel": INTO,
    r"((position_)?(query|key|value)|ff_in|gate|up)/bias": INTO_BIAS,
    r"((attention|cross|ff)_out|down)/kernel": OUT_OF,
    r"(pooler|project|(classifier|head)/dense)/kernel": P("fsdp", None),
}


def param_spec(name: str, shape: tuple[int, ...], mesh) -> P:
    """How the parameter `name`, as in "layer_0/query/kernel", is split over `mesh`."""
    for pattern, spec in PATTERNS.items():
        if re.search(rf"(^|/){pattern}$", name):
            return P(*(
                axis if axis and size % mesh.shape[axis] == 0 else None
                for size, axis in zip(shape, spec, strict=True)
            ))  # fmt: skip
    return P()


def placer(dtype) -> Callable[[tuple[str, ...], np.ndarray], jax.Array]:
    """A function that puts one read parameter where it belongs, each device reading its own part.

    With no mesh set the parameter goes to the default device.
    """
    if current_mesh() is None:
        return lambda path, array: jnp.array(array, dtype)  # a copy: it may be a view of a file
    mesh, dtype = jax.sharding.get_mesh(), jnp.dtype(dtype)

    def place(path, array):
        sharding = NamedSharding(mesh, param_spec("/".join(path), array.shape, mesh))
        return jax.make_array_from_callback(
            array.shape, sharding, lambda index: np.array(array[index], dtype)
        )

    return place
