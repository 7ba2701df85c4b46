"""Regression: a number for each text or pair of texts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.families.family import SEQUENCE
from latadj_jax.tasks.classification import CLASSIFICATION, num_labels_of
from latadj_jax.tasks.task import (
    Task,
    as_its_classifier,
    check_each,
    labelled_outcome,
    labelled_weight,
    one_for_each_label,
    values_of,
)


def _is_meant(hf: Mapping[str, Any]) -> bool:
    if hf.get("problem_type") in (None, "", CLASSIFICATION.problem_type):
        return num_labels_of(hf) == 1
    return hf["problem_type"] == REGRESSION.problem_type


def _loss(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of the squared errors; logits [..., 1]."""
    return jnp.sum(jnp.square(logits[..., 0] - targets) * weights)


def _distance(logits: jax.Array, teacher: jax.Array, weights: jax.Array) -> jax.Array:
    return _loss(logits, jax.lax.stop_gradient(teacher)[..., 0], weights)


def _check_labels(labels_N: np.ndarray, num_labels: int) -> None:
    labels_N = np.asarray(labels_N)
    check_each(np.isfinite(labels_N), labels_N, "finite")


REGRESSION = Task(
    name="regression",
    head=SEQUENCE,
    reads_all=as_its_classifier,
    outputs=("logits",),
    width=one_for_each_label,
    metrics=("pearson", "spearman"),
    agreement="pearson",
    is_meant=_is_meant,
    problem_type="regression",
    new_labels=1,
    labels="value",
    loss=_loss,
    distance=_distance,
    outcome=labelled_outcome,
    weight=labelled_weight,
    predictions=lambda logits_NC: logits_NC[:, 0],
    teaches=lambda logits_NC: logits_NC[:, 0],
    answer=values_of,
    check_labels=_check_labels,
)
