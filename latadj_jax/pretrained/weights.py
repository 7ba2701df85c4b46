"""Reading the tensors of a checkpoint folder, in whatever format they are.

Readers give tensors under their torch names in torch layout ([out, in] kernels).
"""

import json
from pathlib import Path

import flax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from latadj_jax.errors import WeightsError
from latadj_jax.pretrained.sources import reason

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
# What safetensors calls the dtypes that a checkpoint may hold.
SAFETENSORS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
WEIGHT_FILES = ("model.safetensors", "flax_model.msgpack", "pytorch_model.bin")


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
        shards = [folder / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"{index} is no weight index: it has no 'weight_map'.") from None
    for shard, file in zip(names, shards, strict=True):
        if not file.exists():
            raise WeightsError(f"{folder} lacks the shard {shard} that {index.name} names.")
    return shards


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Views of the file: only what is looked at is read, a shard of a parameter say.

    Source: the format's own page, https://huggingface.co/docs/safetensors.
    """
    try:
        with safe_open(file, "numpy"):  # refuses a header or a length that is wrong
            pass
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be read ({error}); fetch it again.") from None
    header.pop("__metadata__", None)
    raw = np.memmap(file, np.uint8, "r")[8 + size :]  # one for all: each holds the file open
    return {name: _view(file, raw, name, **about) for name, about in header.items()}


def _view(file: Path, raw: np.ndarray, name: str, dtype: str, shape, data_offsets) -> np.ndarray:
    if dtype not in SAFETENSORS:
        raise WeightsError(f"{file} holds {name} as {dtype}; save it as F32 or BF16.")
    start, stop = data_offsets
    return raw[start:stop].view(SAFETENSORS[dtype]).reshape(shape)


def _read_msgpack(file: Path) -> dict[str, np.ndarray]:
    try:
        tree = flax.serialization.msgpack_restore(file.read_bytes())
        # Flax's own checkpoints hold collections, of which these are the parameters.
        flat = flax.traverse_util.flatten_dict(tree.get("params", tree))
    except Exception as error:  # msgpack raises many kinds
        raise WeightsError(f"{file} cannot be read ({reason(error)}); fetch it again.") from None
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
        raise WeightsError(f"{file} cannot be read ({reason(error)}); fetch it again.") from None
    if not isinstance(state, dict):
        raise WeightsError(f"{file} holds a {type(state).__name__}; save model.state_dict().")
    for name, value in state.items():
        if not torch.is_tensor(value) or value.layout != torch.strided:
            raise WeightsError(
                f"{file} holds {name!r}, which is no dense tensor but of type "
                f"{type(value).__name__}; save model.state_dict()."
            )
    # NumPy knows no bfloat16, and float32 holds every half-precision value exactly.
    wide = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return {name: tensor.detach().numpy() for name, tensor in wide.items()}
