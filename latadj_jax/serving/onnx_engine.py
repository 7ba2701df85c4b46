"""Exported graphs served by onnxruntime, asked as an Engine is.

engine = OnnxEngine("exported")
engine.warmup()
logits_NC = engine(texts, speedup=2)
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from latadj_jax.extras import require
from latadj_jax.model.buckets import pad
from latadj_jax.model.model import Model
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.load import read_model
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.programs import Shape


class OnnxPrograms:
    """The graphs of a folder, as an engine runs programs; a session for each that is asked for.

    Threads may call it at once.
    """

    def __init__(self, folder: Path, about: Mapping, model: Model, threads: int | None = None):
        """Reads no weights yet.

        Args:
          about: what export.json says.
          threads: of each call; None is one for each core.
        """
        self.model = model
        self.keys = tuple(name for name in about["inputs"] if name != "attention_mask")
        self._folder, self._threads = folder, threads
        self._files = {(g["length"], g["alpha"]): g["file"] for g in about["graphs"]}
        self._sessions, self.shapes = {}, []
        self.kind = f"onnxruntime {about['quantized']} {threads}"  # what their times depend on

    def compile(self, shapes: Iterable[Shape], progress: bool = False) -> None:
        """Loads the graphs of `shapes` that are not there yet."""
        for shape in tqdm(list(shapes), desc="load", unit="graph", disable=not progress):
            if (shape.length, shape.alpha) not in self._sessions:
                self._sessions[shape.length, shape.alpha] = self._session(shape)
            if shape not in self.shapes:
                self.shapes.append(shape)

    def _session(self, shape: Shape):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        file = self._folder / self._files[shape.length, shape.alpha]
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

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
    """An Engine whose programs are graphs that `export_onnx` wrote; its calls are the same."""

    def __init__(
        self,
        folder: str | Path,
        *,
        alphas: Sequence[float | None] = (),
        buckets: Sequence[int] = (),
        threads: int | None = None,
        **options,
    ):
        """Checks everything and loads no graph.

        Args:
          folder: as `export_onnx` wrote it.
          alphas, buckets: some of those exported; all if empty.
          threads: of each call; None is one for each core.
          options: batch_sizes, truncate, latency_file, max_wait_ms and policy, as of an Engine.

        Raises:
          ValueError: what cannot work.
        """
        require("onnx", "onnxruntime")
        folder = Path(folder)
        about = read_json(folder / "export.json")
        if about.get("kind") != "onnx":
            raise ValueError(f"{folder} holds no ONNX graphs; export them with --format onnx.")
        model = read_model(folder)
        made = {"alphas": {g["alpha"] for g in about["graphs"]},
                "buckets": {g["length"] for g in about["graphs"]}}  # fmt: skip
        for name, asked in (("alphas", alphas), ("buckets", buckets)):
            if missing := [one for one in asked if one not in made[name]]:
                raise ValueError(f"{name} has {missing[0]}, which {folder} was not exported for.")
        programs = OnnxPrograms(folder, about, model, threads)
        self._set_up(
            model, programs, load_tokenizer(str(folder)),
            alphas=alphas or tuple(made["alphas"]), buckets=buckets or tuple(made["buckets"]),
            **options,
        )  # fmt: skip
