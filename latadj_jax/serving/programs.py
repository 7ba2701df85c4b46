"""Compiled programs of a model: one per (padded length, batch size, alpha)."""

import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from latadj_jax.model.buckets import pad
from latadj_jax.model.model import Model
from latadj_jax.model.row_chunks import in_parts
from latadj_jax.serving.memory_maps import check_room


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a program is compiled for; alpha None is dense."""

    length: int
    batch_size: int
    alpha: float | None


class Programs:
    """Logits, or embeddings, of batches by programs that are compiled once, ahead of time.

    A compiled program cannot trace or compile again: inputs of any other shape are an error.
    Threads may call it at once.
    """

    kind = "2"  # raised when this library's programs become faster or slower
    fills = True

    def __init__(self, model: Model, params, keys: tuple[str, ...] = ("input_ids",)):
        """Compiles nothing yet.

        Args:
          keys: the inputs beside the mask, as the tokenizer gives them.
        """
        self.model, self.keys = model, keys
        self.params = jax.device_put(params)
        self._compiled = {}

    def compile(self, shapes: Iterable[Shape], progress: bool = False) -> None:
        """Makes the programs of `shapes` that are not there yet.

        Raises:
          NoRoomError: there is no room for one; those before it are there.
        """
        missing = [shape for shape in dict.fromkeys(shapes) if shape not in self._compiled]
        shown = progress and missing
        for shape in tqdm(missing, desc="compile", unit="program", disable=not shown):
            check_room(len(self))
            self._compiled[shape] = self._lower(shape).compile()

    def _lower(self, shape: Shape):
        (output,) = self.model.record.outputs  # a row for each text, or for each token
        module, plan = self.model.module, self.model.plan(shape.alpha, shape.length)
        plan = self.model.head_plan(plan)

        def logits(params, inputs):
            def run(inputs):
                return getattr(module.apply({"params": params}, inputs, plan), output)

            return in_parts(run, inputs)

        size = (shape.batch_size, shape.length)
        inputs = {key: jax.ShapeDtypeStruct(size, jnp.int32) for key in self.keys}
        inputs["attention_mask"] = jax.ShapeDtypeStruct(size, bool)
        return jax.jit(logits).lower(self.params, inputs)

    def __len__(self) -> int:
        return len(self._compiled)

    @property
    def shapes(self) -> list[Shape]:
        return list(self._compiled)

    def run(self, shape: Shape, examples: list[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits [n, C], or [n, length, C], of the n examples, which are at most the batch size.

        The batch is filled up.

        Raises:
          KeyError: a shape that was not compiled.
        """
        compiled = self._compiled[shape]
        filled = examples + examples[:1] * (shape.batch_size - len(examples))
        return np.asarray(compiled(self.params, pad(filled, shape.length)))[: len(examples)]
