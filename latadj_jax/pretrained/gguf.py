"""A Llama model's config and weights from one GGUF file, without torch.

Metadata keys that a file leaves out get llama.cpp's defaults.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.errors import GGUFError
from latadj_jax.families.family import CAUSAL_LM
from latadj_jax.families.llama import FAMILY
from latadj_jax.pretrained.sources import reason

ROPE_FREQS = "rope_freqs.weight"  # no weight: read_config reads it


def read_config(file: str | Path) -> dict[str, Any]:
    """What the config.json of this LlamaForCausalLM would hold.

    Scaled rotary embeddings ("linear", "yarn", ...) are passed on by name. The factors per
    frequency of Llama 3.1 files become rope_type "llama3", if they are those of its published
    parameters.

    Raises:
      GGUFError: as `read_header`; a metadata key that is missing or impossible.
    """
    header = read_header(file)
    data = header.metadata
    if data.get("llama.expert_count"):
        raise GGUFError(f"{file} holds a mixture of experts, which is not implemented.")
    hidden, heads = header.size("llama.embedding_length"), _heads(header)
    widths = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    widths = {key: data[f"llama.{key}"] for key in widths if f"llama.{key}" in data}
    if len(set(widths.values())) > 1:
        raise GGUFError(f"{file}: heads must have one width; {widths} are not the same.")
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": data.get("llama.vocab_size") or len(header.need("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "num_hidden_layers": header.size("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _heads(header, "_kv"),
        "head_dim": next(iter(widths.values()), hidden // heads),
        "intermediate_size": header.size("llama.feed_forward_length"),
        "max_position_embeddings": header.size("llama.context_length"),
        "rms_norm_eps": _decimal(header.need("llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": _rope_parameters(header),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "bos_token_id": data.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _ends(data),
        "pad_token_id": data.get("tokenizer.ggml.padding_token_id"),
    }


def _ends(data) -> int | list[int] | None:
    """What ends a text, and what ends a turn of a chat where that is another token."""
    ids = [data.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    ids = list(dict.fromkeys(n for n in ids if n is not None))
    return ids if len(ids) > 1 else next(iter(ids), None)


def read_tensors(file: str | Path) -> dict[str, np.ndarray]:
    """All weights, by torch name, in torch layout ([out, in] kernels), float32.

    Raises:
      GGUFError: as `read_config`; tensors that are none of a Llama's, or cannot be de-quantized.
    """
    header = read_header(file)
    torch_names = _torch_names(header)
    names = {name: torch_names.get(name) for name in header.tensors if name != ROPE_FREQS}
    if unknown := [name for name, torch_name in names.items() if torch_name is None]:
        raise GGUFError(
            f"{file} holds tensors that are none of a plain Llama model's: "
            f"{', '.join(unknown[:8])}{f' and {len(unknown) - 8} more' * (len(unknown) > 8)}."
        )
    tensors = {torch_name: _dequantize(header, name) for name, torch_name in names.items()}
    for name, weight in tensors.items():
        if name.endswith((".q_proj.weight", ".k_proj.weight")):
            heads = _heads(header, "_kv" if ".k_proj." in name else "")
            if weight.ndim != 2 or len(weight) % (2 * heads):
                raise GGUFError(f"{file}: {name} {weight.shape} cannot be cut into {heads} heads.")
            tensors[name] = _halves(weight, heads)
    return tensors


class Header(NamedTuple):
    """A Llama's GGUF file. Nothing of it may be changed: the next reader gets the same."""

    file: Path
    metadata: dict[str, Any]
    tensors: dict[str, Any]  # gguf.gguf_reader.ReaderTensor

    def need(self, key: str) -> Any:
        if key not in self.metadata:
            raise GGUFError(f"{self.file} lacks the metadata key {key}; convert it again.")
        return self.metadata[key]

    def size(self, key: str) -> int:
        value = self.need(key)
        if not isinstance(value, int) or value < 1:
            raise GGUFError(f"{self.file}: {key} must be one number above 0; it is {value!r}.")
        return value


def read_header(file: str | Path) -> Header:
    """What the file holds, parsed once while it is unchanged: a vocabulary takes seconds.

    Raises:
      GGUFError: no `gguf` package, no file that it can read, or another architecture than Llama's.
    """
    try:
        found = Path(file).stat()
        header = _parse(Path(file), found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise GGUFError(f"{file} cannot be read ({reason(error)}).") from None
    architecture = header.metadata.get("general.architecture")
    if architecture != "llama":
        raise GGUFError(f"{file} holds architecture {architecture!r}; only 'llama' is read.")
    return header


@functools.lru_cache(maxsize=1)
def _parse(file: Path, size: int, mtime_ns: int) -> Header:
    try:
        import gguf
    except ImportError:
        raise GGUFError(
            f"{file} needs the Python package gguf, which is not installed; it comes with: "
            "pip install 'latadj_jax[gguf]'"
        ) from None

    class Reader(gguf.GGUFReader):
        def _get(self, offset, dtype, count=1, override_order=None):
            values = super()._get(offset, dtype, count, override_order)
            if len(values) < count:  # else an array of damaged length would be read for ever
                raise EOFError(f"nothing at byte {offset + values.nbytes}")
            return values

    try:
        reader = Reader(file)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise many kinds
        raise GGUFError(
            f"{file} is no GGUF file, or it is truncated, damaged or of a newer kind than the "
            f"installed gguf package can read ({reason(error)})."
        ) from None
    if reader.endianess != gguf.GGUFEndian.LITTLE:
        raise GGUFError(f"{file} is big-endian; only little-endian GGUF files are read.")
    return Header(file, metadata, {tensor.name: tensor for tensor in reader.tensors})


def _heads(header: Header, of: str = "") -> int:
    key = f"llama.attention.head_count{of}"
    return header.size(key if key in header.metadata else "llama.attention.head_count")


def _decimal(value: float) -> float:
    """The shortest decimal that is this float32: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _rope_parameters(header: Header) -> dict[str, Any]:
    data, key = header.metadata, "llama.rope.scaling"
    theta = _decimal(data.get("llama.rope.freq_base", 10000.0))
    factor = _decimal(data.get(f"{key}.factor", data.get("llama.rope.scale_linear", 1.0)))
    kind = data.get(f"{key}.type", "linear")
    if ROPE_FREQS in header.tensors:
        return {"rope_theta": theta, **_llama3_scaling(header, theta)}
    if kind == "none" or (kind == "linear" and factor in (0, 1)):
        return {"rope_type": "default", "rope_theta": theta}
    parameters = {"rope_type": kind, "rope_theta": theta, "factor": factor}
    if f"{key}.original_context_length" in data:
        parameters["original_max_position_embeddings"] = data[f"{key}.original_context_length"]
    return parameters


def _llama3_scaling(header: Header, theta: float) -> dict[str, Any]:
    """The parameters behind the file's divisors, one per rotary frequency."""
    low, high, length = 1.0, 4.0, 8192  # of all Llama 3.1, 3.2 and 3.3 models
    divisors = _dequantize(header, ROPE_FREQS)
    factor = float(divisors.max())
    turns = length / (2 * np.pi) * theta ** -(np.arange(divisors.size) / divisors.size)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(divisors, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
        raise GGUFError(
            f"{header.file}: {ROPE_FREQS} are not Llama 3.1's; others are not implemented."
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }


def _torch_names(header: Header) -> dict[str, str]:
    """The torch name of each weight that a Llama has, by GGUF's name."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    # A file has at least one tensor for each layer; a damaged number would be counted up for ever.
    layers = min(header.size("llama.block_count"), len(header.tensors))
    of_torch = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
    found = {}
    inside = [f"{FAMILY.prefix}{name}" for name in FAMILY.names.values()]
    for theirs in (*inside, *FAMILY.heads[CAUSAL_LM].names.values()):
        for name in {f"{theirs.format(n=n)}.weight" for n in range(layers)}:
            found[of_torch.get_name(name, try_suffixes=(".weight",))] = name
    return found


def _dequantize(header: Header, name: str) -> np.ndarray:
    from gguf import quants

    tensor = header.tensors[name]
    try:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
    except Exception as error:  # many kinds
        raise GGUFError(f"{header.file}: {name} cannot be read ({reason(error)}).") from None
    return np.array(values, np.float32)  # a copy: the file may change


def _halves(weight_OI: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key kernel, reordered within each head.

    llama.cpp rotates rows (2i, 2i + 1) together, Hugging Face rows (i, i + C / 2): of a head with
    rows 0, 1, 2, 3 it is 0, 2, 1, 3.
    """
    rows, columns = weight_OI.shape
    pairs = weight_OI.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
