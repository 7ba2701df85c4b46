"""Sequence to sequence: a target text is written after a source was read."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import SEQ2SEQ as SEQ2SEQ_HEAD
from latadj_jax.tasks.task import Outcome, Passes, Task, cross_entropy, everything, kl_divergence


def _outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of sources `input_ids` [B, T] and `labels` [B, S], ids of targets, -1 after their ends."""
    targets_BS = jnp.maximum(batch["labels"], 0)
    logits_BSV = passes.after(batch, targets_BS[:, :-1], plan)
    return Outcome(logits_BSV, targets_BS, (batch["labels"] >= 0) * batch["weights"][:, None])


def _weight(batch: Mapping[str, Any], plan: Plan) -> jax.Array:
    return jnp.sum((batch["labels"] >= 0) * batch["weights"][:, None])


SEQ2SEQ = Task(
    name="seq2seq",
    head=SEQ2SEQ_HEAD,
    reads_all=everything,
    outputs=(),
    metrics=("bleu", "chrf", "exact_match"),
    writes="target",
    labels="text",
    loss=cross_entropy,
    distance=kl_divergence,
    outcome=_outcome,
    weight=_weight,
)
