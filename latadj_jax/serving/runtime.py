"""What an engine, its queue and its controller need of whatever runs the model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from latadj_jax.model.model import Model
from latadj_jax.serving.programs import Shape


class Runtime(Protocol):
    """A model as programs, one for each shape: programs.py compiles them by JAX, onnx_engine.py
    loads exported graphs. Threads may call it at once.

    Attributes:
      model: what they compute, whose plans are theirs.
      keys: the inputs of a text, beside the mask.
      kind: what their times depend on, beside the machine, jax and the model.
      fills: whether a batch that is not full takes as long as a full one.
      at_once: how many batches are best run at the same time, where all are there.
    """

    model: Model
    keys: tuple[str, ...]
    kind: str
    fills: bool
    at_once: int

    @property
    def shapes(self) -> Sequence[Shape]:
        """Those that can be run."""

    def compile(self, shapes: Iterable[Shape], progress: bool = False) -> None:
        """Makes what is not there yet; nothing is made later."""

    def __len__(self) -> int:
        """How many programs were made."""

    def run(self, shape: Shape, examples: list[Mapping[str, np.ndarray]]) -> np.ndarray:
        """A row for each of the n examples, at most the batch size: [n, ...].

        Raises:
          KeyError: a shape that cannot be run.
        """
