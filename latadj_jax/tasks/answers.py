"""Answers: the span of a context that answers a question."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import SPAN
from latadj_jax.tasks.task import Outcome, Passes, Task, cross_entropy, everything, kl_divergence


def _outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of pairs of question and context, whose answer starts and ends at the tokens `labels` [B, 2].

    What is predicted is one of all tokens, twice: the logits are [B, 2, T].
    """
    logits_B2T = passes.whole(batch, plan).logits.swapaxes(1, 2)
    is_token_B1T = (batch["attention_mask"] != 0)[:, None, :]
    logits_B2T = jnp.where(is_token_B1T, logits_B2T, jnp.finfo(jnp.float32).min)
    labels = batch["labels"]
    if labels.ndim == 3:  # a teacher's logits [B, T, 2]
        labels = jnp.where(is_token_B1T, labels.swapaxes(1, 2), jnp.finfo(jnp.float32).min)
    weights_B2 = jnp.broadcast_to(batch["weights"][:, None] / 2, logits_B2T.shape[:2])
    return Outcome(logits_B2T, labels, weights_B2)


def _check_labels(labels_N2: np.ndarray, num_labels: int) -> None:
    labels_N2 = np.asarray(labels_N2)
    bad_N = (labels_N2[:, 0] < 0) | (labels_N2[:, 1] < labels_N2[:, 0])
    if bad_N.any():
        row = int(np.argmax(bad_N))
        raise ValueError(f"the answer of example {row} goes from token {labels_N2[row].tolist()}.")


def _weight(batch: Mapping[str, Any], plan: Plan) -> jax.Array:
    return jnp.sum(batch["weights"])


ANSWERS = Task(
    name="question-answering",
    head=SPAN,
    reads_all=everything,
    outputs=("logits",),
    width=lambda config: 2,
    per_token=True,
    reads_pairs=True,
    metrics=("f1", "exact_match"),
    agreement="f1",
    labels="span",
    loss=cross_entropy,
    distance=kl_divergence,
    outcome=_outcome,
    weight=_weight,
    predictions=lambda logits_NT2: logits_NT2,  # the answer is for the windows of a question
    teaches=lambda logits_NT2: logits_NT2,
    check_labels=_check_labels,
)
