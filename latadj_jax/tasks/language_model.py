"""Language modelling: the next token of a text."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import CAUSAL_LM
from latadj_jax.tasks.task import Outcome, Passes, Task, cross_entropy, everything, kl_divergence


def _outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of windows `input_ids` [B, T].

    A plan for T tokens prunes them whole, and all but the first are predicted, after removed ones
    are restored. A plan for fewer prunes the first of them, and the rest, read after them, are
    predicted.
    """
    ids_BT = batch["input_ids"]
    if plan.length == ids_BT.shape[1]:
        out, ids_BS = passes.whole({"input_ids": ids_BT}, plan, restore=True), ids_BT[:, 1:]
        logits_BSV = out.logits[:, :-1]
    else:
        prompt, ids_BS = {"input_ids": ids_BT[:, : plan.length]}, ids_BT[:, plan.length :]
        logits_BSV = passes.after(prompt, ids_BS, plan)[:, :-1]
    weights_BS = jnp.broadcast_to(batch["weights"][:, None], ids_BS.shape)
    return Outcome(logits_BSV, ids_BS, weights_BS)


def _weight(batch: Mapping[str, Any], plan: Plan) -> jax.Array:
    length = batch["input_ids"].shape[1]
    return jnp.sum(batch["weights"]) * (length - (1 if plan.length == length else plan.length))


LANGUAGE_MODEL = Task(
    name="lm",
    head=CAUSAL_LM,
    reads_all=everything,
    outputs=(),
    metrics=("perplexity",),
    writes="continuation",
    loss=cross_entropy,
    distance=kl_divergence,
    outcome=_outcome,
    weight=_weight,
)
