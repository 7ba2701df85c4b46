"""Where models and data come from: a local path, a file inside an installed package, or the hub."""

import importlib.util
import pathlib
import re
from collections.abc import Sequence

from latadj_jax.errors import SourceError

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
# First found wins: the same weights in a second format would double the download.
_WEIGHTS = ("model*.safetensors", "flax_model*.msgpack", "pytorch_model*.bin")
_CONFIG_AND_TOKENIZER = ("*.json", "*.txt", "*.model", "*.jinja", "*.codes", "*.tiktoken")
_MODULE = re.compile(r"\d+_\w+", re.ASCII)  # e.g. 1_Pooling


def resolve(source: str) -> pathlib.Path:
    """Path of a model: a local folder or file, `package:NAME/sub/path`, or a hub id (downloaded).

    Raises:
      SourceError: nothing is there. What looks like a path is never asked of the hub.
    """
    return local_path(source) or _download(source)


def local_path(source: str) -> pathlib.Path | None:
    """Path of a local or `package:` source, or None where only the hub could have it.

    Raises:
      SourceError: a package or file that is not there, or a string that can be no hub id.
    """
    if source.startswith("package:"):
        return _in_package(source)
    path = pathlib.Path(source).expanduser()
    if source and path.exists():
        return path
    if not _HUB_ID.fullmatch(source):
        raise SourceError(
            f"There is no folder or file {source!r}, and it is no hub id or package:NAME/path."
        )
    return None


def reason(error: Exception) -> str:
    """Kind and first line of another library's error, to be quoted in one sentence."""
    what = str(error).strip().split("\n")[0].rstrip(". ")
    return f"{type(error).__name__}: {what}" if what else type(error).__name__


def _in_package(source: str) -> pathlib.Path:
    name, _, inside = source.removeprefix("package:").partition("/")
    # find_spec would import the parents of a dotted name.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = (spec and spec.submodule_search_locations) or ()
    if not folders:
        raise SourceError(
            f"{source!r} needs the Python package {name!r}, which is not installed; the packages "
            "of the quickstart come with: pip install 'latadj_jax[quickstart]'"
        )
    for folder in folders:
        if (path := pathlib.Path(folder) / inside).exists():
            return path
    raise SourceError(f"The installed package {name!r} holds no {inside!r}.")


def _download(source: str) -> pathlib.Path:
    import huggingface_hub  # not needed for anything local

    try:
        repo = huggingface_hub.HfApi().model_info(source, timeout=10)
        files = _wanted([file.rfilename for file in repo.siblings])
        return pathlib.Path(huggingface_hub.snapshot_download(source, allow_patterns=files))
    except Exception as error:  # the hub client raises many kinds, its HTTP library's among them
        why = reason(error)
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(source, local_files_only=True))
    except Exception:
        raise SourceError(
            f"{source!r} is no local folder, and the Hugging Face hub did not give it ({why}); "
            "name a folder or an existing hub id, or download it once while online."
        ) from None


def _wanted(files: Sequence[str]) -> list[str]:
    """Config, tokenizer and one format of weights, from the top level of a repository and from the
    folders of sentence-transformers' modules."""
    folders: dict[pathlib.PurePosixPath, list[pathlib.PurePosixPath]] = {}
    for file in map(pathlib.PurePosixPath, files):
        if file.parent.name == "" or _MODULE.fullmatch(str(file.parent)):
            folders.setdefault(file.parent, []).append(file)
    wanted = []
    for inside in folders.values():
        wanted += [file for file in inside if any(file.match(g) for g in _CONFIG_AND_TOKENIZER)]
        of_format = ([file for file in inside if file.match(glob)] for glob in _WEIGHTS)
        wanted += next(filter(None, of_format), [])
    return sorted({str(file) for file in wanted})
