"""Hugging Face weights to parameters and back.

A family's record names the module of ours that each tensor belongs to; `merge` loses nothing in
silence.
"""

import logging
import re
from collections.abc import Mapping, Sequence

import flax
import numpy as np

from latadj_jax.devices.mesh import fetch
from latadj_jax.devices.param_specs import placer
from latadj_jax.devices.processes import is_first_process
from latadj_jax.errors import WeightsError
from latadj_jax.families.family import BASE, Family, Head
from latadj_jax.pretrained.weights import LEAVES

log = logging.getLogger(__name__)

# What lets a checkpoint pass whose other tensors are not known.
LEAVE_BEHIND = "strict=False, --no-strict of a command, --config.model.strict=False of a training"


def merge(
    family: Family,
    head: Head,
    expected,
    tensors: Mapping[str, np.ndarray],
    dtype,
    seed: int,
    init_std: float,
    strict: bool = True,
):
    """Parameters in the shape of `expected`, filled with `tensors`.

    Heads that the checkpoint lacks are drawn anew (normal with `init_std`, biases 0) and logged, as
    is what another class's head leaves over.

    Args:
      expected: tree of ShapeDtypeStruct, as `jax.eval_shape` of the model's init gives it.
      tensors: by torch name, in torch layout.
      strict: whether tensors that no class of the family is known to have are refused.

    Raises:
      WeightsError: tensors missing, unexpected or of another shape, all listed.
    """
    tensors = _split(family, _renamed(family, tensors))
    missing, misshaped, integers, new, flat = [], [], [], [], {}
    place = placer(dtype)
    leaves = flax.traverse_util.flatten_dict(expected)
    names = {path: _torch_name(family, head, path) for path in leaves}
    # A head may be new as a whole; half of one was lost.
    present = {path[0] for path in leaves if names[path] in tensors}
    for path, leaf in leaves.items():
        name = names[path]
        array = tensors.pop(name, None)
        if array is None:
            if path[0] in family.may_be_new and path[0] not in present:
                new.append(name)
                flat[path] = place(path, _new_leaf(path, leaf.shape, seed, init_std))
            else:
                missing.append(name)
            continue
        if not np.issubdtype(array.dtype, np.floating) and array.dtype.kind != "V":
            integers.append(f"{name} ({array.dtype})")
            continue
        wanted = leaf.shape[::-1] if _is_transposed(family, path) else leaf.shape
        if array.shape != wanted:
            misshaped.append(f"{name} {list(array.shape)} instead of {list(wanted)}")
            continue
        array = array.T if _is_transposed(family, path) else array
        flat[path] = place(path, array)
    left = sorted(
        name for name in tensors
        if not (family.buffers.match(name) or name.startswith(head.unread))
    )  # fmt: skip
    part = family.optional
    if part and any(name.startswith(part) for name in names.values()):
        part = ""  # it is there
    known = [n for n in left if family.left_over.match(n) or (part and n.startswith(part))]
    unexpected = [name for name in left if name not in known] if strict else []
    problems = [
        f"{what}: {_listed(names)}"
        for what, names in
        (("missing", missing), ("of another shape", misshaped), ("quantized", integers),
         ("unexpected", unexpected))
        if names
    ]  # fmt: skip
    if problems:
        passes = bool(unexpected) and not (missing or misshaped or integers)
        raise WeightsError(
            f"the weights do not fit this {family.name} config; {'; '.join(problems)}."
            + f" To leave those behind: {LEAVE_BEHIND}." * passes
        )
    if new:
        log.warning("Drawn anew, as the checkpoint lacks them: %s", ", ".join(new))
    if left:
        log.warning("Left behind, as this task does not read them: %s", _listed(left))
    return flax.traverse_util.unflatten_dict(flat)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:8])}{f' and {len(names) - 8} more' * (len(names) > 8)}"


def has_labels(head: Head, tensors: Mapping[str, np.ndarray], num_labels: int) -> bool:
    """Whether `tensors` hold a head whose last matrix has a row for each of so many labels."""
    last = tensors.get(f"{list(head.names.values())[-1]}.weight")
    return last is not None and last.shape[0] == num_labels


def without_head(head: Head, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`tensors` but for the module of the head that has a row for each label."""
    last = list(head.names)[-1].split("/")[0]
    prefixes = tuple(f"{name}." for ours, name in head.names.items() if ours.split("/")[0] == last)
    return {name: array for name, array in tensors.items() if not name.startswith(prefixes)}


def to_tensors(family: Family, kind: str, params) -> dict[str, np.ndarray]:
    """`params` on the host, under torch names and in torch layout; of the first process only.

    Args:
      kind: of the head.
    """
    tensors, head = {}, family.heads[kind]
    for path, array in flax.traverse_util.flatten_dict(params).items():
        name = _torch_name(family, head, path)
        if kind != BASE and head.prefixed and _pattern(path)[0] not in head.names:
            name = family.prefix + name
        array = fetch(array)
        if not is_first_process():
            continue
        tensors[name] = np.ascontiguousarray(array.T if _is_transposed(family, path) else array)
    return _join(family, tensors)


def _renamed(family: Family, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torch names without the base model's prefix, and with today's names for norm weights."""
    named: dict[str, str] = {}
    for name in tensors:
        ours = name.removeprefix(family.prefix)
        ours = re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", ours))
        if ours in named:
            raise WeightsError(f"the weights hold {named[ours]} and {name}, which are one tensor.")
        named[ours] = name
    return {ours: tensors[name] for ours, name in named.items()}


def _torch_name(family: Family, head: Head, path: tuple[str, ...]) -> str:
    ours, number = _pattern(path)
    theirs = head.names.get(ours) or family.names[ours]
    return f"{theirs.format(n=number)}.{LEAVES[path[-1]]}"


def _pattern(path: tuple[str, ...]) -> tuple[str, str]:
    """A module's path with {n} for the number of its layer, and the number."""
    ours, number = "/".join(path[:-1]), re.search(r"(?<=layer_)\d+", path[0])
    if not number:
        return ours, ""
    return ours.replace(f"layer_{number[0]}/", "layer_{n}/", 1), number[0]


def _split(family: Family, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`tensors` with each fused one in parts."""
    split = dict(tensors)
    for fused, parts in family.fused.items():
        axis = _fused_axis(family, parts)
        for name in [name for name in split if f"{fused}." in name]:
            before, _, leaf = name.partition(f"{fused}.")
            if split[name].shape[axis] % len(parts) == 0:
                arrays = np.split(np.asarray(split.pop(name)), len(parts), axis=axis)
                for part, array in zip(parts, arrays, strict=True):
                    split[f"{before}{fused}.{part}.{leaf}"] = array
    return split


def _join(family: Family, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The other way round."""
    joined = dict(tensors)
    for fused, parts in family.fused.items():
        axis, first = _fused_axis(family, parts), f"{fused}.{parts[0]}."
        for name in [name for name in joined if first in name]:
            before, _, leaf = name.partition(first)
            arrays = [joined.pop(f"{before}{fused}.{part}.{leaf}") for part in parts]
            joined[f"{before}{fused}.{leaf}"] = np.concatenate(arrays, axis=axis)
    return joined


def _fused_axis(family: Family, parts: Sequence[str]) -> int:
    """The axis along which they lie side by side: that of a kernel's outputs, as of a bias."""
    return -1 if parts[0] in family.conv1d else 0


def _is_transposed(family: Family, path: tuple[str, ...]) -> bool:
    return path[-1] == "kernel" and path[-2] not in family.conv1d


def _new_leaf(path: tuple[str, ...], shape, seed: int, std: float) -> np.ndarray:
    if path[-1] != "kernel":
        return np.zeros(shape)
    rng = np.random.default_rng([seed, *"/".join(path).encode()])
    return rng.normal(0.0, std, shape)
