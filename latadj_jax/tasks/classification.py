"""Classification: one of several labels for each text or pair of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from latadj_jax.families.family import SEQUENCE
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.tasks.task import (
    Answer,
    Task,
    as_its_classifier,
    check_each,
    cross_entropy,
    kl_divergence,
    labelled_outcome,
    labelled_weight,
    one_for_each_label,
)


def _check(config: HfConfig) -> None:
    if len(config.labels) < 2:
        raise ValueError("a classification needs two labels or more; pass num_labels.")


def num_labels_of(hf: Mapping[str, Any]) -> int:
    """How many labels a parsed config.json has; Hugging Face's default is two."""
    given = hf.get("num_labels")
    return len(hf.get("id2label") or range(2 if given is None else given))


def _is_meant(hf: Mapping[str, Any]) -> bool:
    """A head of one label is a regression's, as in Hugging Face."""
    kind = hf.get("problem_type") or CLASSIFICATION.problem_type
    return kind == CLASSIFICATION.problem_type and num_labels_of(hf) > 1


def _answer(labels: Sequence[str], logits_C: np.ndarray) -> Answer:
    """The most likely label, and its probability by softmax."""
    probabilities = np.asarray(jax.nn.softmax(np.asarray(logits_C, np.float32)))
    best = int(probabilities.argmax())
    return Answer(((labels[best], float(probabilities[best])),))


def _check_labels(labels_N: np.ndarray, num_labels: int) -> None:
    labels_N = np.asarray(labels_N)
    check_each((labels_N >= 0) & (labels_N < num_labels), labels_N, f"in 0..{num_labels - 1}")


CLASSIFICATION = Task(
    name="classification",
    head=SEQUENCE,
    reads_all=as_its_classifier,
    outputs=("logits",),
    width=one_for_each_label,
    metrics=("accuracy", "f1", "matthews"),
    agreement="accuracy",
    check=_check,
    is_meant=_is_meant,
    problem_type="single_label_classification",
    labels="class",
    loss=cross_entropy,
    distance=kl_divergence,
    outcome=labelled_outcome,
    weight=labelled_weight,
    predictions=lambda logits_NC: logits_NC.argmax(axis=1).astype(np.int32),
    teaches=lambda logits_NC: logits_NC,
    answer=_answer,
    check_labels=_check_labels,
)
