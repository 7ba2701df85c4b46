"""Which axis of each parameter is split over which axis of the mesh: one table per family.

"fsdp" splits the axis that a product sums over (or what it makes), "tensor" the heads and the width
of the feed-forward, so that a layer's second product ends with one sum over devices. An axis that a
mesh does not divide stays whole.
"""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from latadj_jax.mesh import current_mesh
from latadj_jax.model import Model, param_shapes, random_params

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


def shardings(model: Model, tree, mesh: Mesh):
    """The sharding of each leaf of `tree`: parameters, or a state that holds some.

    A leaf belongs to the parameter whose path ends its own, if it has that parameter's shape (so do
    Adam's moments); any other is copied to every device.
    """
    shapes = jax.tree.leaves_with_path(param_shapes(model))
    known = {_name(path): leaf.shape for path, leaf in shapes}

    def of(path, leaf) -> NamedSharding:
        parts = _name(path).split("/")
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            if known.get(name) == leaf.shape:
                spec = param_spec(model.config.model_type, name, leaf.shape, mesh)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, P())

    return jax.tree.map_with_path(of, tree)


def placed(model: Model, shapes):
    """Shapes of parameters or of a state, each with the sharding of where it belongs.

    With no mesh set that is the default device.
    """
    if current_mesh() is None:
        one = SingleDeviceSharding(jnp.zeros(()).device)
        of = jax.tree.map(lambda _: one, shapes)
    else:
        of = shardings(model, shapes, jax.sharding.get_mesh())
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, of
    )


def create(model: Model, make: Callable, *args):
    """`make(*args)` with every leaf made where it belongs: never whole on one device.

    With no mesh set it is just computed.
    """
    if current_mesh() is None:
        return jax.jit(make)(*args)
    out = shardings(model, jax.eval_shape(make, *args), jax.sharding.get_mesh())
    return jax.jit(make, out_shardings=out)(*args)


def init_params(model: Model, seed: int = 0):
    """Random parameters, to train from scratch; on a mesh each device makes its own parts."""
    return create(model, functools.partial(random_params, model), jax.random.key(seed))


def keep(model: Model, tree):
    """`tree` under jit, constrained to where its leaves belong."""
    mesh = current_mesh()
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, shardings(model, tree, mesh))


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


def check_heads(model: Model) -> None:
    """Raises ValueError for a model whose heads cannot be shared over the mesh's "tensor" axis."""
    mesh, c = current_mesh(), model.config
    parts = 1 if mesh is None else mesh.shape["tensor"]
    heads = getattr(c, "num_kv_heads", c.num_heads)
    if heads % parts:
        raise ValueError(
            f"config.mesh.tensor is {parts}, which does not divide the {heads} heads of the "
            f"model's keys and values; lower it, and raise config.mesh.fsdp."
        )


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
