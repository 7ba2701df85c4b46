"""How each task's labelled examples are read, encoded and measured: a line for each."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.data.encoded import Encoded, encode_examples, encode_one_by_one
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.evaluation.metrics import label_metrics
from latadj_jax.evaluation.rankings import METRICS as RANKINGS
from latadj_jax.evaluation.rankings import ranking_metrics
from latadj_jax.evaluation.similarity import SIMILARITIES, cosine
from latadj_jax.model.model import Model
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.ranking import RANKING
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.task import Task

# Of (names of metrics, model, examples, their labels, a row for each text): the metrics. The labels
# are a teacher's answers where nobody labelled.
Measure = Callable[[Sequence[str], Model, Examples, np.ndarray, np.ndarray], dict[str, float]]


def _of_labels(names, model, examples, labels, rows) -> dict[str, float]:
    predicted = model.record.predictions(rows).astype(labels.dtype)
    return label_metrics(names, labels, predicted, len(model.config.labels))


def _of_rankings(names, model, examples, labels, rows) -> dict[str, float]:
    """Candidates of one query are those with the same first text."""
    scores, ranked = model.record.predictions(rows), [name for name in names if name in RANKINGS]
    found = label_metrics([name for name in names if name not in RANKINGS], labels, scores)
    if ranked:
        queries = [texts[0] for texts in examples.texts]
        found |= ranking_metrics(ranked, queries, labels, scores)
    return {name: found[name] for name in names}


def _of_embeddings(names, model, examples, labels, rows) -> dict[str, float]:
    """Of pairs, their likeness against the labels; of texts, the mean cosine with a teacher's."""
    if labels.ndim == 2:
        return dict.fromkeys(names, float(cosine(rows, labels).mean()))
    alike = SIMILARITIES[model.config.embedding.similarity](rows[::2], rows[1::2])
    return label_metrics(names, labels, alike)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Of one task.

    Attributes:
      load: as `load_examples`.
      encode: function of (tokenizer, examples, data settings).
      measure: as `Measure`.
    """

    load: Callable = load_examples
    encode: Callable[..., Encoded] = encode_examples
    measure: Measure = _of_labels


READERS: dict[Task, Reader] = {
    CLASSIFICATION: Reader(),
    MULTI_LABEL: Reader(),
    REGRESSION: Reader(),
    RANKING: Reader(measure=_of_rankings),
    EMBEDDING: Reader(encode=encode_one_by_one, measure=_of_embeddings),
}


def reader_of(task: Task) -> Reader:
    return READERS[task]
