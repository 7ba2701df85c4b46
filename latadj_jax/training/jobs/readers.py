"""How each task's labelled examples are read, encoded and measured: a line for each."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.data.encoded import Encoded, encode_examples, encode_one_by_one
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.data.questions import encode_questions, load_questions
from latadj_jax.data.tagged_examples import load_tagged
from latadj_jax.data.tagged_tokens import encode_tagged
from latadj_jax.evaluation.answers import answer_metrics, found_answers
from latadj_jax.evaluation.metrics import label_metrics
from latadj_jax.evaluation.rankings import METRICS as RANKINGS
from latadj_jax.evaluation.rankings import ranking_metrics
from latadj_jax.evaluation.similarity import SIMILARITIES, cosine
from latadj_jax.evaluation.tags import tag_metrics, tags_of_words
from latadj_jax.model.model import Model
from latadj_jax.tasks.answers import ANSWERS
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.ranking import RANKING
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.tags import TAGS
from latadj_jax.tasks.task import Task

# Of (names of metrics, model, examples, the same encoded, a row for each text): the metrics. The
# labels of what is encoded are a teacher's answers where nobody labelled.
Measure = Callable[[Sequence[str], Model, Examples, Encoded, np.ndarray], dict[str, float]]


def _of_labels(names, model, examples, part, rows) -> dict[str, float]:
    predicted = model.record.predictions(rows).astype(part.labels.dtype)
    return label_metrics(names, part.labels, predicted, len(model.config.labels))


def _of_tags(names, model, examples, part, rows) -> dict[str, float]:
    """Of each word, by its first token; where a teacher answers, of the words that have one."""
    tags, predicted_NT = model.config.labels, model.record.predictions(rows)
    if examples.labels.dtype == object:
        labels = [[tags[tag] for tag in of_text] for of_text in examples.labels]
        predicted = tags_of_words(predicted_NT, part.starts, tags)
    else:
        starts = [of_text[of_text >= 0] for of_text in part.starts]
        labels = tags_of_words(part.labels, starts, tags)
        predicted = tags_of_words(predicted_NT, starts, tags)
    return tag_metrics(names, labels, predicted)


def _of_rankings(names, model, examples, part, rows) -> dict[str, float]:
    """Candidates of one query are those with the same first text."""
    scores, ranked = model.record.predictions(rows), [name for name in names if name in RANKINGS]
    found = label_metrics([name for name in names if name not in RANKINGS], part.labels, scores)
    if ranked:
        queries = [texts[0] for texts in examples.texts]
        found |= ranking_metrics(ranked, queries, part.labels, scores)
    return {name: found[name] for name in names}


def _of_embeddings(names, model, examples, part, rows) -> dict[str, float]:
    """Of pairs, their likeness against the labels; of texts, the mean cosine with a teacher's."""
    if part.labels.ndim == 2:
        return dict.fromkeys(names, float(cosine(rows, part.labels).mean()))
    alike = SIMILARITIES[model.config.embedding.similarity](rows[::2], rows[1::2])
    return label_metrics(names, part.labels, alike)


def _of_answers(names, model, examples, part, rows) -> dict[str, float]:
    """Where nobody answered, the answers are a teacher's: those of its logits."""
    contexts = [context for _, context in examples.texts]
    if part.labels_of == "token":
        answers = [[text] for text in found_answers(contexts, part.windows, part.labels)]
    else:
        answers = [[answer.text for answer in some] for some in examples.labels]
    no_answer = not all(answers)
    found = found_answers(contexts, part.windows, rows, no_answer)
    return answer_metrics(names, answers, found)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Of one task.

    Attributes:
      load: as `load_examples`.
      encode: function of (tokenizer, examples, data settings).
      measure: as `Measure`.
      unit: what the report calls that which is encoded.
      needs: packages of the extra "train" that it measures with.
    """

    load: Callable = load_examples
    encode: Callable[..., Encoded] = encode_examples
    measure: Measure = _of_labels
    unit: str = "examples"
    needs: tuple[str, ...] = ("sklearn",)


READERS: dict[Task, Reader] = {
    CLASSIFICATION: Reader(),
    MULTI_LABEL: Reader(),
    REGRESSION: Reader(),
    RANKING: Reader(measure=_of_rankings),
    EMBEDDING: Reader(encode=encode_one_by_one, measure=_of_embeddings),
    TAGS: Reader(load_tagged, encode_tagged, _of_tags, needs=("seqeval",)),
    ANSWERS: Reader(load_questions, encode_questions, _of_answers, "windows"),
}


def reader_of(task: Task) -> Reader:
    return READERS[task]
