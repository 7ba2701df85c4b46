"""What a task is: its loss, and how logits become predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from latadj_jax.api import apply
from latadj_jax.continuation import continuation_logits
from latadj_jax.model import Model
from latadj_jax.plan import Plan


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


def total_loss(task: str, logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of losses: cross-entropy, or the squared error of a regression.

    Args:
      logits: float32 [..., C]; a regression has C = 1.
      targets: int32 class or token ids, float32 values of a regression, or a teacher's logits
        [..., C], from which the loss is the distance.
      weights: float32 [...].
    """
    if targets.ndim == logits.ndim:
        return total_distance(task, logits, targets, weights)
    if task == "regression":
        losses = jnp.square(logits[..., 0] - targets)
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(losses * weights)


def total_distance(task: str, logits: jax.Array, teacher: jax.Array, weights: jax.Array):
    """Weighted sum of distances from a teacher's logits: KL divergence, or the squared difference.

    Source: Hinton, Vinyals and Dean, arXiv 1503.02531.
    """
    teacher = jax.lax.stop_gradient(teacher)
    if task == "regression":
        distances = jnp.square(logits[..., 0] - teacher[..., 0])
    else:
        log_probs, log_teacher = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher)
        distances = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_probs), axis=-1)
    return jnp.sum(distances * weights)


def total_weight(model: Model, batch, plan: Plan) -> jax.Array:
    """The sum of the weights that `outcome` gives: what a sum of losses is divided by."""
    if model.task == "seq2seq":
        return jnp.sum((batch["labels"] >= 0) * batch["weights"][:, None])
    length = batch["input_ids"].shape[1]
    predicted = {"lm": length - (1 if plan.length == length else plan.length)}.get(model.task, 1)
    return jnp.sum(batch["weights"]) * predicted


def predictions(task: str, logits_BC: np.ndarray) -> np.ndarray:
    """Class ids, or the values of a regression: [B]."""
    return logits_BC[:, 0] if task == "regression" else logits_BC.argmax(axis=1)


def check_labels(task: str, labels_B: np.ndarray, num_labels: int) -> None:
    """Raises ValueError for a class id outside 0..num_labels-1 or a target that is not finite."""
    labels_B = np.asarray(labels_B)
    if task == "regression":
        bad_B = ~np.isfinite(labels_B)
    else:
        bad_B = (labels_B < 0) | (labels_B >= num_labels)
    if bad_B.any():
        row = int(np.argmax(bad_B))
        allowed = "finite" if task == "regression" else f"in 0..{num_labels - 1}"
        raise ValueError(f"label {labels_B[row]} of example {row} must be {allowed}.")
