"""Several labels: for each text those of a set that hold, each by itself; there may be none."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.families.family import SEQUENCE
from latadj_jax.tasks.task import (
    Answer,
    Task,
    as_its_classifier,
    check_each,
    labelled_outcome,
    labelled_weight,
    one_for_each_label,
)

THRESHOLD = 0.5  # a label holds from this probability


def binary_cross_entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum over texts of the mean over labels of -log p(target).

    Args:
      logits: float32 [..., C].
      targets: probabilities that each label holds, 0 or 1 where somebody labelled: [..., C].
    """
    import optax  # of training alone

    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    return jnp.sum(losses.mean(axis=-1) * weights)


def _distance(logits: jax.Array, teacher: jax.Array, weights: jax.Array) -> jax.Array:
    """The loss where the teacher's probabilities are the targets."""
    return binary_cross_entropy(logits, jax.nn.sigmoid(jax.lax.stop_gradient(teacher)), weights)


def probabilities(logits_NC: np.ndarray) -> np.ndarray:
    """Of each label, by sigmoid: float32 [..., C]."""
    # By NumPy, which compiles nothing; as tanh, which overflows nowhere.
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits_NC, np.float32)))


def _answer(labels: Sequence[str], logits_C: np.ndarray) -> Answer:
    """The labels that hold, most likely first, and the probability of each."""
    found_C = probabilities(logits_C)
    order = [int(c) for c in np.argsort(-found_C, kind="stable") if found_C[c] >= THRESHOLD]
    return Answer(tuple((labels[c], float(found_C[c])) for c in order))


def _check_labels(labels_NC: np.ndarray, num_labels: int) -> None:
    labels_NC = np.asarray(labels_NC)
    if labels_NC.ndim != 2 or labels_NC.shape[1] != num_labels:
        raise ValueError(
            f"labels must be [N, {num_labels}], a number for each label; they are "
            f"{list(labels_NC.shape)}."
        )
    is_share_N = ((labels_NC >= 0) & (labels_NC <= 1)).all(axis=1)
    check_each(is_share_N, labels_NC, "0 or 1", "labels")


def _is_meant(hf: Mapping[str, Any]) -> bool:
    return hf.get("problem_type") == MULTI_LABEL.problem_type


MULTI_LABEL = Task(
    name="multi-label",
    head=SEQUENCE,
    reads_all=as_its_classifier,
    outputs=("logits",),
    width=one_for_each_label,
    metrics=("f1_micro", "f1_macro", "exact_match"),
    agreement="f1_micro",
    is_meant=_is_meant,
    problem_type="multi_label_classification",
    labels="classes",
    loss=binary_cross_entropy,
    distance=_distance,
    outcome=labelled_outcome,
    weight=labelled_weight,
    predictions=lambda logits_NC: (probabilities(logits_NC) >= THRESHOLD).astype(np.float32),
    teaches=probabilities,
    answer=_answer,
    check_labels=_check_labels,
)
