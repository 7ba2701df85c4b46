"""Tags: a label for each token of a text, as in the recognition of named entities."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import TOKEN
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.tasks.task import (
    Outcome,
    Passes,
    Task,
    cross_entropy,
    everything,
    kl_divergence,
    one_for_each_label,
)

OUTSIDE = "O"  # the tag of a word that is part of nothing


def _check(config: HfConfig) -> None:
    if len(config.labels) < 2:
        raise ValueError("tags need two labels or more; pass num_labels.")


def _weights(batch: Mapping[str, Any]) -> jax.Array:
    """Of each token, float32 [B, T]: 0 where nobody labelled it, and in what fills the batch."""
    labels = batch["labels"]
    labelled_BT = batch["attention_mask"] != 0  # by a teacher: float32 [B, T, C], or its tags
    if labels.ndim == 2:
        labelled_BT = labelled_BT & (labels >= 0)
    return labelled_BT * batch["weights"][:, None]


def _outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of texts whose tokens have `labels` int32 [B, T], -1 for those without."""
    logits_BTC, labels = passes.whole(batch, plan).logits, batch["labels"]
    targets = jnp.maximum(labels, 0) if labels.ndim == 2 else labels
    return Outcome(logits_BTC, targets, _weights(batch))


def _weight(batch: Mapping[str, Any], plan: Plan) -> jax.Array:
    return jnp.sum(_weights(batch))


def _check_labels(labels_NT: np.ndarray, num_labels: int) -> None:
    labels_NT = np.asarray(labels_NT)
    bad_N = ((labels_NT < -1) | (labels_NT >= num_labels)).any(axis=1)
    if bad_N.any():
        row = int(np.argmax(bad_N))
        raise ValueError(f"a tag of example {row} is not in 0..{num_labels - 1}.")


TAGS = Task(
    name="token-classification",
    head=TOKEN,
    reads_all=everything,
    outputs=("logits",),
    width=one_for_each_label,
    per_token=True,
    metrics=("f1", "precision", "recall", "accuracy"),
    agreement="f1",
    check=_check,
    labels="tags",
    loss=cross_entropy,
    distance=kl_divergence,
    outcome=_outcome,
    weight=_weight,
    predictions=lambda logits_NTC: logits_NTC.argmax(axis=-1).astype(np.int32),
    teaches=lambda logits_NTC: logits_NTC,
    check_labels=_check_labels,
)
