"""What a training pass predicts, and what it should have."""

import jax
import jax.numpy as jnp

from latadj_jax.elimination.plan import Plan
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.model.apply import apply
from latadj_jax.model.model import Model


def outcome(model: Model, params, batch, plan: Plan, train: bool = False, rngs=None):
    """What a pass predicts, and what it should have: (logits [..., C], targets, weights).

    A language model's batch is windows `input_ids` [B, T]. A plan for T tokens prunes them whole,
    and all but the first are predicted, after removed ones are restored. A plan for fewer prunes
    the first of them, and the rest, read after them, are predicted.

    A "seq2seq" batch has `labels` [B, S], ids of the targets with -1 after their ends.

    Weights are 0 for rows that only fill the batch. With gradients through what is kept.
    """
    run = {"plan": plan, "train": train, "rngs": rngs}
    weights_B = batch["weights"]
    if model.task == "seq2seq":
        targets_BS = jnp.maximum(batch["labels"], 0)
        logits_BSV = continuation_logits(model, params, batch, targets_BS[:, :-1], **run)
        return logits_BSV, targets_BS, (batch["labels"] >= 0) * weights_B[:, None]
    if model.task != "lm":
        run["plan"] = plan.for_head()
        return apply(model, params, batch, **run).logits, batch["labels"], weights_B
    ids_BT = batch["input_ids"]
    if plan.length == ids_BT.shape[1]:
        logits_BSV = apply(model, params, {"input_ids": ids_BT}, restore=True, **run).logits[:, :-1]
        ids_BS = ids_BT[:, 1:]
    else:
        prompt, ids_BS = {"input_ids": ids_BT[:, : plan.length]}, ids_BT[:, plan.length :]
        logits_BSV = continuation_logits(model, params, prompt, ids_BS, **run)[:, :-1]
    return logits_BSV, ids_BS, jnp.broadcast_to(weights_B[:, None], ids_BS.shape)


def total_weight(model: Model, batch, plan: Plan) -> jax.Array:
    """The sum of the weights that `outcome` gives: what a sum of losses is divided by."""
    if model.task == "seq2seq":
        return jnp.sum((batch["labels"] >= 0) * batch["weights"][:, None])
    length = batch["input_ids"].shape[1]
    predicted = {"lm": length - (1 if plan.length == length else plan.length)}.get(model.task, 1)
    return jnp.sum(batch["weights"]) * predicted
