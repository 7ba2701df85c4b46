"""Exported graphs served by onnxruntime, asked as an Engine is.

engine = OnnxEngine("exported")
engine.warmup()
logits_NC = engine(texts, speedup=2)
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from latadj_jax.elimination.alpha import slowest_first
from latadj_jax.errors import ConfigError
from latadj_jax.model.buckets import pad
from latadj_jax.model.model import Model
from latadj_jax.onnx_graph.runtime import load_onnxruntime
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.load import read_model
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.programs import Shape


@dataclasses.dataclass(frozen=True)
class Exported:
    """A folder that `export_onnx` wrote.

    Attributes:
      alphas: of its graphs, slowest first.
      buckets: their padded lengths, ascending.
      files: the graph of each (length, alpha).
      inputs: of every graph.
      quantized: "int8", or None.
    """

    folder: Path
    model: Model
    alphas: tuple[float | None, ...]
    buckets: tuple[int, ...]
    files: Mapping[tuple[int, float | None], str]
    inputs: tuple[str, ...]
    quantized: str | None


def read_exported(folder: str | Path) -> Exported:
    """What is in the folder; no graph is loaded.

    Raises:
      ConfigError: it holds no graphs for onnxruntime.
    """
    folder = Path(folder)
    if not (folder / "export.json").exists():
        raise ConfigError(
            f"{folder} holds no export.json: write the folder by latadj export --format onnx."
        )
    about = read_json(folder / "export.json")
    if about.get("kind") != "onnx":
        raise ConfigError(f"{folder} holds no ONNX graphs; export them with --format onnx.")
    graphs = about["graphs"]
    return Exported(
        folder, read_model(folder),
        alphas=slowest_first(graph["alpha"] for graph in graphs),
        buckets=tuple(sorted({graph["length"] for graph in graphs})),
        files={(graph["length"], graph["alpha"]): graph["file"] for graph in graphs},
        inputs=tuple(about["inputs"]), quantized=about["quantized"],
    )  # fmt: skip


class OnnxPrograms:
    """The graphs of a folder as a `Runtime`; a session for each that is asked for."""

    fills = False
    at_once = 1

    def __init__(self, exported: Exported, threads: int | None = None):
        """Reads no weights yet.

        Args:
          threads: of each call; None is one for each core.
        """
        self._ort = load_onnxruntime()
        self.model = exported.model
        self.keys = tuple(name for name in exported.inputs if name != "attention_mask")
        self.kind = f"onnxruntime {self._ort.__version__} {exported.quantized} {threads}"
        self.shapes: list[Shape] = []
        self._exported, self._threads = exported, threads
        self._sessions: dict[tuple[int, float | None], Any] = {}

    def compile(self, shapes: Iterable[Shape], progress: bool = False) -> None:
        """Loads the graphs of `shapes` that are not there yet."""
        for shape in tqdm(list(shapes), desc="load", unit="graph", disable=not progress):
            key = shape.length, shape.alpha
            if key not in self._sessions:
                file = self._exported.files[key]
                self._sessions[key] = self._session(self._exported.folder / file)
            if shape not in self.shapes:
                self.shapes.append(shape)

    def _session(self, file: Path):
        options = self._ort.SessionOptions()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        try:
            return self._ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many classes, which have no base in common
            what = " ".join(str(error).split())
            raise ValueError(
                f"onnxruntime {self._ort.__version__} cannot load {file}, whose weights must be "
                f"beside it and which needs version 1.20 or later: {what}"
            ) from None

    def __len__(self) -> int:
        return len(self._sessions)

    def run(self, shape: Shape, examples: list[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits [n, C], or [n, length, C], or embeddings [n, D] of the n examples.

        A graph takes any number of them: nothing is filled up.

        Raises:
          KeyError: a graph that was not loaded.
        """
        session = self._sessions[shape.length, shape.alpha]
        batch = {key: x.astype(np.int64) for key, x in pad(examples, shape.length).items()}
        outputs = session.run(None, batch)
        return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)  # of spans two


class OnnxEngine(Engine):
    """An `Engine` that runs the graphs of `export_onnx` by onnxruntime; calls are the same."""

    def __init__(
        self,
        folder: str | Path,
        *,
        alphas: Sequence[float | None] = (),
        buckets: Sequence[int] = (),
        threads: int | None = None,
        **options: Any,
    ):
        """Checks everything and loads no graph.

        Args:
          folder: a folder that `export_onnx` wrote.
          alphas: some of the exported alphas; by default all.
          buckets: some of the exported padded lengths; by default all.
          threads: threads of each call; None is one per core.
          **options: batch_sizes, truncate, latency_file, max_wait_ms and policy, see `Engine`.

        Raises:
          ValueError: an argument that cannot work, or a folder without graphs.
        """
        load_onnxruntime()
        exported = read_exported(folder)
        for name, asked in (("alphas", alphas), ("buckets", buckets)):
            there = getattr(exported, name)
            if missing := [one for one in asked if one not in there]:
                raise ValueError(
                    f"{name} has {missing[0]}, which {folder} was not exported for; it has "
                    f"{', '.join(map(_named, there))}."
                )
        self._set_up(
            exported.model, OnnxPrograms(exported, threads), load_tokenizer(str(folder)),
            alphas=alphas or exported.alphas, buckets=buckets or exported.buckets, **options,
        )  # fmt: skip


def _named(one: float | None) -> str:
    return "dense" if one is None else str(one)
