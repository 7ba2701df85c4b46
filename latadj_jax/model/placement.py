"""Parameters, and states that hold some, where they belong on the mesh."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from latadj_jax.devices.mesh import current_mesh
from latadj_jax.devices.param_specs import param_spec
from latadj_jax.model.model import Model, param_shapes, random_params


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
                spec = param_spec(name, leaf.shape, mesh)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, P())

    return jax.tree.map_with_path(of, tree)


def with_shardings(model: Model, shapes):
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


def make_placed(model: Model, make: Callable, *args):
    """`make(*args)` with every leaf made where it belongs: never whole on one device.

    With no mesh set it is just computed.
    """
    if current_mesh() is None:
        return jax.jit(make)(*args)
    out = shardings(model, jax.eval_shape(make, *args), jax.sharding.get_mesh())
    return jax.jit(make, out_shardings=out)(*args)


def init_params(model: Model, seed: int = 0):
    """Random parameters, to train from scratch; on a mesh each device makes its own parts."""
    return make_placed(model, functools.partial(random_params, model), jax.random.key(seed))


def split_as_params(model: Model, tree):
    """`tree` under jit, constrained to where its leaves belong."""
    mesh = current_mesh()
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, shardings(model, tree, mesh))


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
