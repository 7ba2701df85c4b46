"""Compiled programs of a model: one per (padded length, batch size, alpha).

On a CPU a batch is computed in parts, several at once: the programs are those of the parts, and
batch sizes of which the parts are alike share one.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from latadj_jax.model.buckets import pad
from latadj_jax.model.model import Model
from latadj_jax.model.row_chunks import cores, rows_beside
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

    kind = "3"  # raised when this library's programs become faster or slower
    fills = True

    def __init__(self, model: Model, params, keys: tuple[str, ...] = ("input_ids",)):
        """Compiles nothing yet.

        Args:
          keys: the inputs beside the mask, as the tokenizer gives them.
        """
        self.model, self.keys = model, keys
        self.params = jax.device_put(params)
        self._compiled = {}  # by the shapes of parts
        self._parts: dict[Shape, Shape] = {}  # by the shapes of batches
        self._cores = cores()
        self.at_once = max(1, self._cores)
        self._pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="parts")

    def compile(self, shapes: Iterable[Shape], progress: bool = False) -> None:
        """Makes the programs of `shapes` that are not there yet.

        Raises:
          NoRoomError: there is no room for one; those before it are there.
        """
        missing = [shape for shape in dict.fromkeys(shapes) if shape not in self._parts]
        shown = progress and missing
        for shape in tqdm(missing, desc="compile", unit="program", disable=not shown):
            part = self._part_of(shape)
            if part not in self._compiled:
                check_room(len(self))
                self._compiled[part] = self._lower(part).compile()
            self._parts[shape] = part

    def _part_of(self, shape: Shape) -> Shape:
        """The same with the rows of one part."""
        if not self._cores:
            return shape
        plan = self.model.plan(shape.alpha, shape.length)
        left = float(np.mean(plan.counts, where=plan.runs))
        rows = rows_beside(shape.batch_size, shape.length, left, self._cores)
        return dataclasses.replace(shape, batch_size=rows)

    def _lower(self, shape: Shape):
        (output,) = self.model.record.outputs  # a row for each text, or for each token
        module, plan = self.model.module, self.model.plan(shape.alpha, shape.length)
        plan = self.model.head_plan(plan)

        def logits(params, inputs):
            return getattr(module.apply({"params": params}, inputs, plan), output)

        size = (shape.batch_size, shape.length)
        inputs = {key: jax.ShapeDtypeStruct(size, jnp.int32) for key in self.keys}
        inputs["attention_mask"] = jax.ShapeDtypeStruct(size, bool)
        return jax.jit(logits).lower(self.params, inputs)

    def __len__(self) -> int:
        return len(self._compiled)

    @property
    def shapes(self) -> list[Shape]:
        return list(self._parts)

    def run(self, shape: Shape, examples: list[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Logits [n, C], or [n, length, C], of the n examples, which are at most the batch size.

        The batch is filled up.

        Raises:
          KeyError: a shape that was not compiled.
        """
        part = self._parts[shape]
        compiled, rows = self._compiled[part], part.batch_size
        filled = examples + examples[:1] * (shape.batch_size - len(examples))
        inputs = pad(filled, shape.length)

        def compute(first: int) -> np.ndarray:
            of_part = {key: x[first : first + rows] for key, x in inputs.items()}
            return np.asarray(compiled(self.params, of_part))

        if rows == shape.batch_size:
            return compute(0)[: len(examples)]
        found = self._pool.map(compute, range(0, shape.batch_size, rows))
        return np.concatenate([*found])[: len(examples)]
