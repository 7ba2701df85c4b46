"""How each task's labelled examples are read, encoded and measured: a line for each."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.data.encoded import Encoded, encode_examples, encode_one_by_one
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.data.questions import encode_questions, load_questions
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tagged_examples import load_tagged
from latadj_jax.data.tagged_tokens import encode_tagged
from latadj_jax.errors import DataError, SettingsError
from latadj_jax.evaluation.answers import answer_metrics, found_answers
from latadj_jax.evaluation.metrics import label_metrics
from latadj_jax.evaluation.rankings import METRICS as RANKINGS
from latadj_jax.evaluation.rankings import ranking_metrics
from latadj_jax.evaluation.similarity import SIMILARITIES, cosine
from latadj_jax.evaluation.tags import check_names, tag_metrics, tags_of_words
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
    """Compares tags of words, each read at its first token; with a teacher, where it answered."""
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
    """Ranks the candidates of each query: the pairs that have the same first text."""
    scores, ranked = model.record.predictions(rows), [name for name in names if name in RANKINGS]
    found = label_metrics([name for name in names if name not in RANKINGS], part.labels, scores)
    if ranked:
        queries = [texts[0] for texts in examples.texts]
        found |= ranking_metrics(ranked, queries, part.labels, scores)
    return {name: found[name] for name in names}


def _of_embeddings(names, model, examples, part, rows) -> dict[str, float]:
    """Compares the likeness of pairs with labels, or vectors of texts with a teacher's."""
    if part.labels.ndim > 1:
        return {EMBEDDING.agreement: float(cosine(rows, part.labels.reshape(rows.shape)).mean())}
    alike = SIMILARITIES[model.config.embedding.similarity].of_pairs(rows[::2], rows[1::2])
    return label_metrics(names, part.labels, alike)


def _of_answers(names, model, examples, part, rows) -> dict[str, float]:
    """Compares answers with the labels, or with those that a teacher's logits give."""
    contexts = [context for _, context in examples.texts]
    if part.labels_of == "token":
        answers = [[text] for text in found_answers(contexts, part.windows, part.labels)]
    else:
        answers = [[answer.text for answer in some] for some in examples.labels]
    no_answer = not all(answers)
    found = found_answers(contexts, part.windows, rows, no_answer)
    return answer_metrics(names, answers, found)


# What cannot work is refused before weights are read: functions of (names of metrics, whether the
# evaluation data have labels, names of the labels, examples by name).


def _check_rankings(metrics, labelled, names, parts) -> None:
    ranked = [name for name in metrics if name in RANKINGS]
    if ranked and not labelled:
        raise SettingsError(
            f"config.eval.metrics: {ranked[0]} needs labels that say what is relevant; a teacher's "
            f"answers are compared by {RANKING.agreement!r}."
        )
    for name, part in parts.items():
        if any(len(texts) != 2 for texts in part.texts):
            raise DataError(
                f"{name} holds no pairs of a query and a document: set config.data.text_columns to "
                f"two columns."
            )
    for name, part in parts.items():
        if ranked and not np.isnan(part.labels).all() and not (part.labels > 0).any():
            raise DataError(f"{name} has no relevant candidate, so {ranked[0]} is not defined.")


def _check_embeddings(metrics, labelled, names, parts) -> None:
    for metric in metrics:
        if labelled == (metric == EMBEDDING.agreement):
            raise SettingsError(
                f"config.eval.metrics: {metric!r} is for texts "
                + ("without labels, which a teacher answers." if labelled else "with labels; of a "
                   f"teacher's answers there is {EMBEDDING.agreement!r}.")
            )  # fmt: skip
    for name, part in parts.items():
        if labelled and any(len(texts) != 2 for texts in part.texts):
            raise DataError(
                f"a label says how alike two texts are, but {name} holds single ones: set "
                f"config.data.text_columns to two columns, or config.data.label_column='' to learn "
                f"from a teacher."
            )


def _check_tags(metrics, labelled, names, parts) -> None:
    check_names(metrics, names)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How the labelled examples of one task are read, encoded and measured.

    Attributes:
      load: as `load_examples`.
      encoder: function of (tokenizer, examples, data settings, model).
      check: see above.
      measure: as `Measure`.
      unit: what the report calls that which is encoded.
      needs: packages of the extra "train" that it measures with.
    """

    load: Callable = load_examples
    encoder: Callable[..., Encoded] = encode_examples
    measure: Measure = _of_labels
    unit: str = "examples"
    needs: tuple[str, ...] = ("sklearn",)
    check: Callable[..., None] = lambda metrics, labelled, names, parts: None

    def encode(self, tokenizer, examples: Examples, data: DataSettings, model: Model) -> Encoded:
        """Token ids of the examples, and the other inputs that the model reads."""
        return self.encoder(tokenizer, examples, data, model).read_by(model)


def _of_any_model(encode: Callable[..., Encoded]) -> Callable[..., Encoded]:
    return lambda tokenizer, examples, data, model: encode(tokenizer, examples, data)


READERS: dict[Task, Reader] = {
    CLASSIFICATION: Reader(),
    MULTI_LABEL: Reader(),
    REGRESSION: Reader(),
    RANKING: Reader(measure=_of_rankings, check=_check_rankings),
    EMBEDDING: Reader(
        encoder=encode_one_by_one, measure=_of_embeddings, unit="texts", check=_check_embeddings
    ),
    TAGS: Reader(
        load_tagged, _of_any_model(encode_tagged), _of_tags, needs=("seqeval",), check=_check_tags
    ),
    ANSWERS: Reader(load_questions, _of_any_model(encode_questions), _of_answers, "windows"),
}


def reader_of(task: Task) -> Reader:
    return READERS[task]
