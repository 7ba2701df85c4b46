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


# Parameters that no rule names are copied to every device: norms, biases of what is whole, relative
# positions, classifiers of some labels.
BERT = {
    r"embeddings/\w+/embedding": TABLE,
    r"(query|key|value|ff_in)/kernel": INTO,
    r"(query|key|value|ff_in)/bias": INTO_BIAS,
    r"(attention_out|ff_out)/kernel": OUT_OF,
    r"pooler/kernel": P("fsdp", None),
}


GPT2 = {
    r"(word|position)/embedding": TABLE,
    r"(query|key|value|ff_in)/kernel": INTO,
    r"(query|key|value|ff_in)/bias": INTO_BIAS,
    r"(attention_out|ff_out)/kernel": OUT_OF,
    r"head/kernel": INTO,
}


LLAMA = {
    r"word/embedding": TABLE,
    r"(query|key|value|gate|up)/kernel": INTO,
    r"(query|key|value|gate|up)/bias": INTO_BIAS,
    r"(attention_out|down)/kernel": OUT_OF,
    r"head/kernel": INTO,
}


T5 = {
    r"shared/embedding": TABLE,
    r"(cross_)?(query|key|value)/kernel": INTO,
    r"(wide|gate|up)/kernel": INTO,
    r"((attention|cross)_out|down)/kernel": OUT_OF,
    r"head/kernel": INTO,
}


RULES = {"bert": BERT, "gpt2": GPT2, "llama": LLAMA, "t5": T5}


def param_spec(family: str, name: str, shape: tuple[int, ...], mesh) -> P:
    """How the parameter `name`, as in "layer_0/query/kernel", is split over `mesh`."""
    for pattern, spec in RULES[family].items():
        if re.search(rf"(^|/){pattern}$", name):
            return P(*(
                axis if axis and size % mesh.shape[axis] == 0 else None
                for size, axis in zip(shape, spec, strict=True)
            ))  # fmt: skip
    return P()


def placer(family: str, dtype) -> Callable[[tuple[str, ...], np.ndarray], jax.Array]:
    """A function that puts one read parameter where it belongs, each device reading its own part.

    With no mesh set the parameter goes to the default device.
    """
    if current_mesh() is None:
        return lambda path, array: jnp.array(array, dtype)  # a copy: it may be a view of a file
    mesh, dtype = jax.sharding.get_mesh(), jnp.dtype(dtype)

    def place(path, array):
        sharding = NamedSharding(mesh, param_spec(family, "/".join(path), array.shape, mesh))
        return jax.make_array_from_callback(
            array.shape, sharding, lambda index: np.array(array[index], dtype)
        )

    return place
