"""Offline work by Ray Data: a class that each actor makes once, and that answers batches of rows.

texts = ray.data.read_parquet("texts")
rows = texts.map_batches(BatchEngine, fn_constructor_args=(MODEL,), batch_size=512, ...)
"""

from collections.abc import Sequence

import numpy as np

from latadj_jax.model.buckets import serving_buckets
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine


class BatchEngine:
    """A model for texts in a column: a row of numbers for each, its embedding or its logits.

    The same text gets the same row in any batch, so that a batch that is computed again, after an
    actor was killed, changes nothing.
    """

    def __init__(
        self,
        source: str,
        *,
        speedup: float | None = None,
        text: str = "text",
        second: str | None = None,
        to: str = "row",
        task: str | None = None,
        buckets: Sequence[int] = (),
    ):
        """Loads the model and compiles it.

        Args:
          source: a folder, a hub id, or package:NAME/path.
          speedup: over dense, expected at the largest bucket; by default the model's own alpha.
          text, second: columns; with a second one a text is a pair.
          to: the column that is added, float32 [D] in each row.
          buckets: as of an Engine; longer texts are cut.

        Raises:
          ValueError: a model that gives no row for each text, a speedup out of reach.
        """
        model, params = from_pretrained(source, task)
        if model.record.per_token or model.record.width is None:
            raise ValueError(f"a row is needed for each text; the model is for {model.task!r}.")
        if speedup is not None:
            longest = serving_buckets(buckets, model.config.max_positions)[-1]
            model = model.replace(alpha=model.solve_alpha(longest, speedup))
        self._columns, self._to = (text, second), to
        self._engine = Engine(
            model, params, load_tokenizer(source), buckets=buckets, truncate=True
        ).warmup(repeats=1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The columns of a batch, and one more."""
        text, second = self._columns
        texts = [str(one) for one in batch[text]]
        if second is not None:
            texts = list(zip(texts, map(str, batch[second]), strict=True))
        return {**batch, self._to: self._engine(texts)}
