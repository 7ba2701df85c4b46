"""Metrics of tags: of the entities that they mark, as seqeval counts them, and of words."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from latadj_jax.extras import require
from latadj_jax.tasks.tags import OUTSIDE

# "B-PER" begins a person and "I-PER" is inside of one; "E-" ends one and "S-" is one by itself.
OF_ENTITIES = ("B", "I", "E", "S")

Tags = Sequence[Sequence[str]]  # of texts, of their words


def tags_of_words(
    ids_NT: np.ndarray, starts: Sequence[np.ndarray], names: Sequence[str]
) -> list[list[str]]:
    """The tag of each word: that of its first token; "O" of a word without a token.

    Args:
      ids_NT: the tag of each token.
      starts: of each text the first token of each word, int32 [words]; -1 where there is none.
    """
    return [
        [names[ids_T[start]] if start >= 0 else OUTSIDE for start in of_text]
        for ids_T, of_text in zip(ids_NT, starts, strict=True)
    ]


def accuracy(labels: Tags, predictions: Tags) -> float:
    """Share of the words that have the right tag, in [0, 1]."""
    return float(_seqeval().accuracy_score(labels, predictions))


def precision(labels: Tags, predictions: Tags) -> float:
    """Share of the predicted entities that are right, type and words, in [0, 1]; 0 of none."""
    return float(_seqeval().precision_score(labels, predictions, zero_division=0))


def recall(labels: Tags, predictions: Tags) -> float:
    """Share of the entities that were found, type and words, in [0, 1]; 0 of none."""
    return float(_seqeval().recall_score(labels, predictions, zero_division=0))


def f1(labels: Tags, predictions: Tags) -> float:
    """Harmonic mean of precision and recall, over all entities, in [0, 1]."""
    return float(_seqeval().f1_score(labels, predictions, zero_division=0))


METRICS: dict[str, Callable[[Tags, Tags], float]] = {
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "accuracy": accuracy,
}


def tag_metrics(names: Sequence[str], labels: Tags, predictions: Tags) -> dict[str, float]:
    """The named metrics, in the order asked for.

    Raises:
      ValueError: an unknown metric, no words, or one of entities where the tags mark none.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"{unknown[0]!r} is no metric of tags; there are: {', '.join(METRICS)}.")
    if not any(map(len, labels)):
        raise ValueError("metrics need at least one word; there is none.")
    check_names(names, {tag for texts in (labels, predictions) for text in texts for tag in text})
    return {name: METRICS[name](labels, predictions) for name in names}


def check_names(metrics: Sequence[str], tags: Iterable[str]) -> None:
    """Raises ValueError for a metric of entities where a tag marks none."""
    of_entities = [name for name in metrics if name != "accuracy"]
    if of_entities and (others := sorted(tag for tag in tags if not _marks_entities(tag))):
        raise ValueError(
            f"{of_entities[0]} is of entities, whose tags are O or like B-PER and I-PER; "
            f"{others[0]!r} is neither: measure accuracy (--config.eval.metrics=\"('accuracy',)\")."
        )


def _marks_entities(tag: str) -> bool:
    return tag in (OUTSIDE, *OF_ENTITIES) or tag.startswith(tuple(f"{of}-" for of in OF_ENTITIES))


def _seqeval():
    require("train", "seqeval")
    import seqeval.metrics  # of an extra, and slow to import

    return seqeval.metrics
