"""One GGUF file, or all parts of a split one: metadata and tensors, without torch."""

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.checks import is_number
from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.sources import reason

# Those whose files are read, see gguf.py.
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
PART_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class Header(NamedTuple):
    """What a file holds. Nothing of it may be changed: the next reader gets the same."""

    file: Path
    metadata: dict[str, Any]
    tensors: dict[str, Any]  # gguf.gguf_reader.ReaderTensor

    @property
    def architecture(self) -> str | None:
        return self.metadata.get("general.architecture")

    def key(self, name: str) -> str:
        """The metadata key that the file's architecture has for something."""
        return f"{self.architecture}.{name}"

    def get(self, name: str, default: Any = None) -> Any:
        """What stands under that key."""
        return self.metadata.get(self.key(name), default)

    def need(self, key: str) -> Any:
        if key not in self.metadata:
            raise GGUFError(f"{self.file} lacks the metadata key {key}; convert it again.")
        return self.metadata[key]

    def size(self, name: str) -> int:
        """A number under the architecture's key."""
        key = self.key(name)
        value = self.need(key)
        if not isinstance(value, int) or value < 1:
            raise GGUFError(f"{self.file}: {key} must be one number above 0; it is {value!r}.")
        return value

    def array(self, name: str) -> np.ndarray:
        """A tensor, de-quantized: float32, in torch layout."""
        from gguf import quants

        tensor = self.tensors[name]
        try:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
        except Exception as error:  # many kinds
            raise GGUFError(f"{self.file}: {name} cannot be read ({reason(error)}).") from None
        return np.array(values, np.float32)  # a copy: the file may change


def decimal(value: float) -> float:
    """The shortest decimal that is this float32: 1e-05 and not 9.999999747378752e-06.

    Raises:
      GGUFError: no number.
    """
    if not is_number(value):
        raise GGUFError(f"a GGUF file's metadata has {value!r} where a number is needed.")
    return float(str(np.float32(value)))


def read_header(file: str | Path) -> Header:
    """What a model's file holds, parsed once while it is unchanged: a vocabulary takes seconds.

    Of a file NAME-00001-of-00003.gguf with the metadata of a split one, whichever part is named,
    all parts are read: the metadata of the first, the tensors of all.

    Raises:
      GGUFError: no `gguf` package, no file that it can read, parts that are missing or do not
        belong together, or an architecture that is not read.
    """
    file = Path(file)
    try:
        stamps = tuple(_stamp(part, needed=part == file) for part in _part_files(file))
        header = _read(file, stamps)
    except OSError as error:
        raise GGUFError(f"{file} cannot be read ({reason(error)}).") from None
    if header.architecture not in ARCHITECTURES:
        raise GGUFError(
            f"{file} holds architecture {header.architecture!r}; read are "
            f"{', '.join(ARCHITECTURES)}."
        )
    return header


class Stamp(NamedTuple):
    """A file as it was at one time; the last two are None where there was none."""

    file: Path
    size: int | None
    mtime_ns: int | None


def _stamp(file: Path, needed: bool) -> Stamp:
    try:
        found = file.stat()
    except FileNotFoundError:
        if needed:
            raise
        return Stamp(file, None, None)
    return Stamp(file, found.st_size, found.st_mtime_ns)


def _part_files(file: Path) -> list[Path]:
    """All parts that the file's name speaks of, in order; else the file alone."""
    if not (named := PART_NAME.fullmatch(file.name)):
        return [file]
    name, number, count = named[1], int(named[2]), int(named[3])
    if not 1 <= number <= count:
        return [file]
    return [file.with_name(f"{name}-{n + 1:05d}-of-{count:05d}.gguf") for n in range(count)]


@functools.lru_cache(maxsize=1)
def _read(file: Path, stamps: tuple[Stamp, ...]) -> Header:
    header = _parse(file)
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count < 2:
        return header
    if len(stamps) != count:
        raise GGUFError(
            f"{file} is one of {count} parts (split.count), but its name does not end in "
            f"-00001-of-{count:05d}.gguf or the like, so the others cannot be found."
        )
    if missing := [stamp.file.name for stamp in stamps if stamp.size is None]:
        others = f" and {len(missing) - 1} more" * (len(missing) > 1)
        raise GGUFError(f"{file} is one of {count} parts; not beside it: {missing[0]}{others}.")
    parts = [header if stamp.file == file else _parse(stamp.file) for stamp in stamps]
    return Header(file, parts[0].metadata, _joined(parts))


def _joined(parts: list[Header]) -> dict[str, Any]:
    """The tensors of all parts, if each is the part that its name says."""
    keys = ("split.no", "split.count", "split.tensors.count")
    total, tensors = parts[0].metadata.get(keys[-1]), {}
    for n, part in enumerate(parts):
        own, due = tuple(part.metadata.get(key) for key in keys), (n, len(parts), total)
        if own != due:
            raise GGUFError(
                f"{part.file} does not belong to the other parts: its {', '.join(keys)} are "
                f"{own}; by its name and the first part they must be {due}."
            )
        if twice := sorted(tensors.keys() & part.tensors.keys()):
            raise GGUFError(f"{part.file} holds {twice[0]}, which another part holds too.")
        tensors |= part.tensors
    if len(tensors) != total:
        raise GGUFError(
            f"{parts[0].file} and the other parts hold {len(tensors)} tensors; split.tensors.count "
            f"is {total!r}."
        )
    return tensors


def _parse(file: Path) -> Header:
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
