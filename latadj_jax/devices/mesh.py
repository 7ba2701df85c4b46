"""The device mesh: where batches and parameters live, and getting numbers back from it.

Three axes. Batches are split over "data" and "fsdp"; parameters and optimizer state over "fsdp"
(each device keeps a part, and gathers a layer's weights when it needs them) and "tensor" (each
device computes a part of every layer). What a mesh does is written down by sharding constraints
under `jax.jit`; with no mesh set, or one of a single device, they do nothing.

Names here and in model/placement.py: `place_...` brings arrays of the host to the devices, `fetch`
brings them back; under jit `split_...` and `replicate` say where arrays are to live.

`jax.pmap` could only copy parameters to every device, and is in maintenance; a mesh says where each
axis of each array lives, and the compiler adds the communication.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # the axes that share the examples of a batch


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """A mesh of that many devices along each axis; -1, at most once, is what is left.

    Sizes whose product is smaller than the number of devices leave the others idle, in one process
    only.

    Args:
      devices: by default all that there are; others to compile for what is not at hand.

    Raises:
      ValueError: sizes that the devices cannot be arranged in.
    """
    every = jax.devices() if devices is None else list(devices)
    sizes, devices = [data, fsdp, tensor], len(every)
    wanted = f"mesh data {data} x fsdp {fsdp} x tensor {tensor}"
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"{wanted}: sizes are at least 1, or -1 for one of them.")
    given = -int(np.prod(sizes)) if -1 in sizes else int(np.prod(sizes))
    fits = given <= devices and (devices % given == 0 or -1 not in sizes)
    if not fits or (jax.process_count() > 1 and -1 not in sizes and given != devices):
        raise ValueError(f"{wanted} does not fit the {devices} devices of {_processes()}.")
    shape = tuple(devices // given if size == -1 else size for size in sizes)
    used = every[: int(np.prod(shape))]
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=used)


def _processes() -> str:
    count = jax.process_count()
    return "this process" if count == 1 else f"these {count} processes"


def current_mesh():
    """The mesh that `jax.set_mesh` has set, or None where there is none or it is one device.

    None, too, where the axes are not the compiler's to use: inside `jax.shard_map`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    ours = set(mesh.axis_names) == set(AXES) and set(mesh.axis_types) == {AxisType.Auto}
    return mesh if ours and mesh.size > 1 else None


def num_devices() -> int:
    """How many devices a computation runs on: those of the mesh, or one."""
    mesh = current_mesh()
    return 1 if mesh is None else mesh.size


def num_row_groups() -> int:
    """How many parts the rows of a batch are split into; a batch size must be a multiple of it."""
    mesh = current_mesh()
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def split_by_rows(x: jax.Array) -> jax.Array:
    """`x` [B, ...] under jit, constrained to be split by rows, where a mesh can do that."""
    if current_mesh() is None or x.shape[0] % num_row_groups():
        return x
    return jax.lax.with_sharding_constraint(x, P(ROWS, *[None] * (x.ndim - 1)))


def replicate(x: jax.Array) -> jax.Array:
    """`x` under jit, whole on every device: for parameters, never for activations."""
    return x if current_mesh() is None else jax.lax.with_sharding_constraint(x, P())


def with_auto_axes(f: Callable, rows: jax.Array, *args):
    """`f(*args)` under jit, also where a mesh has axes of type Explicit.

    `jax.make_mesh` makes such axes by default: they want every gather to say how its result is
    split. Inside of `f` they are the compiler's to use, as on the meshes made here.

    Args:
      rows: an array [B, ...] of the batch: outputs [B, ...] are split by rows as it is.
      args: trees of arrays.
    """
    of_args = (jax.typeof(x).sharding.mesh for x in jax.tree.leaves(args))
    meshes = (jax.sharding.get_abstract_mesh(), *of_args)
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return f(*args)
    with jax.sharding.use_abstract_mesh(
        AbstractMesh(mesh.axis_sizes, mesh.axis_names, (AxisType.Auto,) * len(mesh.axis_names))
    ):
        plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
        shapes = jax.eval_shape(f, *plain)
    split = P(*jax.typeof(rows).sharding.spec[:1])

    def sharding(out) -> NamedSharding:
        return NamedSharding(mesh, split if out.shape[:1] == rows.shape[:1] else P())

    return jax.sharding.auto_axes(f, out_sharding=jax.tree.map(sharding, shapes))(*args)


def varying_alike(*arrays: jax.Array) -> list[jax.Array]:
    """Inside `jax.shard_map` the arrays as varying over the same axes; elsewhere as they are."""
    own = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    missing = [tuple(frozenset().union(*own) - varying) for varying in own]
    return [
        jax.lax.pcast(array, axes, to="varying") if axes else array
        for array, axes in zip(arrays, missing, strict=True)
    ]


def own_rows(batch_size: int) -> np.ndarray:
    """The rows of a batch that this process's devices hold, ascending; all without a mesh."""
    every = np.arange(batch_size)
    if current_mesh() is None or batch_size % num_row_groups():
        return every
    sharding = NamedSharding(jax.sharding.get_mesh(), P(ROWS))
    held = sharding.addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([every[index] for index in held]))


def place_own_rows(batch: Mapping[str, np.ndarray], batch_size: int) -> dict[str, jax.Array]:
    """A batch on the devices of the mesh, split by rows; as it is without a mesh.

    Args:
      batch: the rows of this process: those of `own_rows(batch_size)`.
    """
    if current_mesh() is None:
        return dict(batch)
    split = P() if batch_size % num_row_groups() else P(ROWS)
    sharding = NamedSharding(jax.sharding.get_mesh(), split)

    def place(array):
        shape = (batch_size, *array.shape[1:])
        return jax.make_array_from_process_local_data(sharding, np.asarray(array), shape)

    return {key: place(array) for key, array in batch.items()}


def place_batch(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """`place_own_rows`, of a batch that every process has whole."""
    if current_mesh() is None:
        return batch
    size = len(batch["input_ids"])
    rows = own_rows(size)
    return place_own_rows({key: np.asarray(array)[rows] for key, array in batch.items()}, size)


def place_timed_batch(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """`place_batch`, and without a mesh on the default device: for what is timed."""
    return jax.device_put(dict(batch)) if current_mesh() is None else place_batch(batch)


def fetch(x) -> np.ndarray:
    """The whole of `x` on the host, also where other processes hold parts; all must call it."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)
