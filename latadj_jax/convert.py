"""Hugging Face weights to parameters and back.

Readers give tensors under their torch names in torch layout ([out, in] kernels); one rename table
per family says which module of ours each belongs to; `merge` loses nothing in silence.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

log = logging.getLogger(__name__)

# Our module path -> Hugging Face's, without the prefix that task models put before the base model.
BERT = {
    "embeddings/word": "embeddings.word_embeddings",
    "embeddings/position": "embeddings.position_embeddings",
    "embeddings/token_type": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
    "layer_{n}/query": "encoder.layer.{n}.attention.self.query",
    "layer_{n}/key": "encoder.layer.{n}.attention.self.key",
    "layer_{n}/value": "encoder.layer.{n}.attention.self.value",
    "layer_{n}/attention_out": "encoder.layer.{n}.attention.output.dense",
    "layer_{n}/attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
    "layer_{n}/ff_in": "encoder.layer.{n}.intermediate.dense",
    "layer_{n}/ff_out": "encoder.layer.{n}.output.dense",
    "layer_{n}/ff_norm": "encoder.layer.{n}.output.LayerNorm",
    "pooler": "pooler.dense",
    "classifier": "classifier",
}
RENAMES = {"bert": BERT}
PREFIXES = {"bert": "bert."}  # of the base model inside a task model
HEADS = {"bert": ("pooler", "classifier")}  # modules of ours that a checkpoint may lack
# Tensors of theirs that may be left over: heads of other tasks, and buffers that are no weights.
DROPPED = {"bert": re.compile(r"cls\.|classifier\.|qa_outputs\.|embeddings\.position_ids$")}

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
WEIGHT_FILES = ("model.safetensors", "flax_model.msgpack", "pytorch_model.bin")


class WeightsError(ValueError):
    """Weights that cannot be used; the message names the file or the tensors."""


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint folder, by torch name, in torch layout.

    Reads model.safetensors, flax_model.msgpack or pytorch_model.bin (needs torch), the first that
    is there, each also sharded with its `.index.json`.

    Raises:
      WeightsError: no weights, a shard that is missing, a file that is truncated or unreadable.
    """
    for name in WEIGHT_FILES:
        files = _shards(folder, name)
        if files:
            read = {".safetensors": _read_safetensors, ".msgpack": _read_msgpack,
                    ".bin": _read_torch}[Path(name).suffix]  # fmt: skip
            tensors = {}
            for file in files:
                tensors.update(read(file))
            return tensors
    raise WeightsError(f"{folder} holds no weights: none of {', '.join(WEIGHT_FILES)} is there.")


def _shards(folder: Path, name: str) -> list[Path]:
    if (folder / name).exists():
        return [folder / name]
    index = folder / f"{name}.index.json"
    if not index.exists():
        return []
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"{index} is no weight index: it has no 'weight_map'.") from None
    for shard in names:
        if not (folder / shard).exists():
            raise WeightsError(f"{folder} lacks the shard {shard} that {index.name} names.")
    return [folder / shard for shard in names]


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be read ({error}); fetch it again.") from None


def _read_msgpack(file: Path) -> dict[str, np.ndarray]:
    try:
        tree = flax.serialization.msgpack_restore(file.read_bytes())
        flat = flax.traverse_util.flatten_dict(tree)
    except Exception as error:  # msgpack raises many kinds
        raise WeightsError(f"{file} cannot be read ({error}); fetch it again.") from None
    tensors = {}
    for (*module, leaf), array in flat.items():
        array = np.asarray(array)
        name = ".".join((*module, LEAVES.get(leaf, leaf)))
        tensors[name] = array.T if leaf == "kernel" else array
    return tensors


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{file} needs torch to be read: pip install torch, or save the model as safetensors."
        ) from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and zip raise many kinds
        raise WeightsError(f"{file} cannot be read ({error}); fetch it again.") from None
    # NumPy knows no bfloat16, and float32 holds every half-precision value exactly.
    return {k: (v.float() if v.is_floating_point() else v).numpy() for k, v in state.items()}


def merge(
    family: str, expected, tensors: Mapping[str, np.ndarray], dtype, seed: int, init_std: float
):
    """Parameters in the shape of `expected`, filled with `tensors`.

    Heads that the checkpoint lacks are drawn anew (normal with `init_std`, biases 0) and logged.

    Args:
      expected: tree of ShapeDtypeStruct, as `jax.eval_shape` of the model's init gives it.
      tensors: by torch name, in torch layout.

    Raises:
      WeightsError: tensors missing, unexpected or of another shape, all listed.
    """
    tensors = {_canonical(family, name): array for name, array in tensors.items()}
    missing, misshaped, new, flat = [], [], [], {}
    leaves = flax.traverse_util.flatten_dict(expected)
    # A head may be new as a whole; half of one was lost.
    present = {path[0] for path in leaves if _torch_name(family, path) in tensors}
    for path, leaf in leaves.items():
        name = _torch_name(family, path)
        array = tensors.pop(name, None)
        if array is None:
            if path[0] in HEADS[family] and path[0] not in present:
                new.append(name)
                flat[path] = _new_leaf(path, leaf.shape, seed, init_std, dtype)
            else:
                missing.append(name)
            continue
        array = array.T if path[-1] == "kernel" else array
        if array.shape != leaf.shape:
            misshaped.append(f"{name} {list(array.shape)} instead of {list(leaf.shape)}")
            continue
        flat[path] = jnp.asarray(array, dtype)
    unexpected = sorted(name for name in tensors if not DROPPED[family].match(name))
    problems = [
        f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' * (len(names) > 8)}"
        for what, names in
        (("missing", missing), ("of another shape", misshaped), ("unexpected", unexpected))
        if names
    ]  # fmt: skip
    if problems:
        raise WeightsError(f"the weights do not fit this {family} config; {'; '.join(problems)}.")
    if new:
        log.warning("Drawn anew, as the checkpoint lacks them: %s", ", ".join(new))
    return flax.traverse_util.unflatten_dict(flat)


def save_tensors(family: str, task: str, params, file: Path) -> None:
    """Writes `params` as safetensors, under torch names and in torch layout."""
    tensors = {}
    for path, array in flax.traverse_util.flatten_dict(params).items():
        name = _torch_name(family, path)
        if task != "features" and path[0] != "classifier":
            name = PREFIXES[family] + name
        array = np.asarray(array)
        tensors[name] = np.ascontiguousarray(array.T if path[-1] == "kernel" else array)
    save_file(tensors, file, metadata={"format": "pt"})


def _canonical(family: str, name: str) -> str:
    """Torch name without the base model's prefix, and with today's names for norm weights."""
    name = name.removeprefix(PREFIXES[family])
    return re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", name))


def _torch_name(family: str, path: tuple[str, ...]) -> str:
    *module, leaf = path
    number = re.search(r"(?<=layer_)\d+", module[0])
    ours = "/".join(module)
    if number:
        ours = ours.replace(f"layer_{number[0]}/", "layer_{n}/", 1)
    theirs = RENAMES[family][ours]
    return f"{theirs.format(n=number[0]) if number else theirs}.{LEAVES[leaf]}"


def _new_leaf(path: tuple[str, ...], shape, seed: int, std: float, dtype) -> jax.Array:
    if path[-1] != "kernel":
        return jnp.zeros(shape, dtype)
    rng = np.random.default_rng([seed, *"/".join(path).encode()])
    return jnp.asarray(rng.normal(0.0, std, shape), dtype)
