"""The JavaScript that the page runs on: packages of the npm registry, at versions that work."""

import dataclasses
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Library:
    """A package of the npm registry; `files` are those that the page needs, by our names."""

    package: str
    version: str
    files: Mapping[str, str]

    @property
    def spec(self) -> str:
        return f"{self.package}@{self.version}"


LIBRARIES = (
    Library("onnxruntime-web", "1.30.0", {
        "onnxruntime.js": "dist/ort.wasm.bundle.min.mjs",
        "onnxruntime.wasm": "dist/ort-wasm-simd-threaded.wasm",
    }),
    Library("@huggingface/tokenizers", "0.2.0", {
        "tokenizers.js": "dist/tokenizers.min.mjs",
        "tokenizers.LICENSE": "LICENSE",
    }),
)  # fmt: skip
WHERE = "name a node_modules folder with them by --libraries"


@contextmanager
def found_libraries(node_modules: str | Path | None = None) -> Iterator[dict[str, Path]]:
    """The files of all libraries by our names, for as long as the context lasts.

    Args:
      node_modules: a folder with the packages, as `npm install` makes it; by default they are
        fetched by `npm pack`.

    Raises:
      ValueError: they are not to be had; the sentence says what to do.
    """
    if node_modules is not None:
        yield _files(Path(node_modules))
        return
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES:
            _fetch(library, Path(folder))
        yield _files(Path(folder))


def _fetch(library: Library, folder: Path) -> None:
    specs = " and ".join(one.spec for one in LIBRARIES)
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"the page needs {specs}: install npm, which fetches them, or {WHERE}.")
    command = [npm, "pack", "--silent", "--pack-destination", str(folder), library.spec]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        raise ValueError(f"npm could not fetch {library.spec}: connect to a registry, or {WHERE}.")
    target = folder / library.package
    with tarfile.open(archives[0]) as archive:
        for name in library.files.values():
            member = archive.getmember(f"package/{name}")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(archive.extractfile(member).read())
    archives[0].unlink()


def _files(node_modules: Path) -> dict[str, Path]:
    found = {}
    for library in LIBRARIES:
        for name, inside in library.files.items():
            found[name] = node_modules / library.package / inside
            if not found[name].is_file():
                raise ValueError(f"{found[name]} is not there: the page needs {library.spec}.")
    return found
