"""What a task is: its loss, and how logits become predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from latadj_jax.api import apply
from latadj_jax.continuation import continuation_logits
from latadj_jax.model import Model
from latadj_jax.plan import Plan


def training_loss(model: Model, params, batch, plan: Plan, rngs) -> jax.Array:
    """What training makes small, with gradients through the word-vectors that are kept.

    A language model's batch is windows `input_ids` [B, T]. A plan for T tokens prunes them whole,
    and the loss is taken over all tokens after removed ones are restored. A plan for fewer prunes
    the first of them, and the loss is that of the rest, read after them.

    A "seq2seq" batch has `labels` [B, S], ids of the targets with -1 after their ends; the loss is
    the mean over all its tokens, as in Hugging Face's T5.
    """
    run = {"plan": plan, "train": True, "rngs": rngs}
    if model.task == "seq2seq":
        return target_loss(model, params, batch, **run)
    if model.task != "lm":
        return loss(model.task, apply(model, params, batch, **run).logits, batch["labels"],
                    batch["weights"])  # fmt: skip
    ids_BT = batch["input_ids"]
    if plan.length == ids_BT.shape[1]:
        logits_BSV = apply(model, params, {"input_ids": ids_BT}, restore=True, **run).logits[:, :-1]
        ids_BS = ids_BT[:, 1:]
    else:
        prompt, ids_BS = {"input_ids": ids_BT[:, : plan.length]}, ids_BT[:, plan.length :]
        logits_BSV = continuation_logits(model, params, prompt, ids_BS, **run)[:, :-1]
    loss_BS = optax.softmax_cross_entropy_with_integer_labels(logits_BSV, ids_BS)
    return jnp.sum(loss_BS.mean(axis=1) * batch["weights"]) / jnp.sum(batch["weights"])


def target_loss(model: Model, params, batch, **run) -> jax.Array:
    """Mean cross-entropy of a batch's target tokens; `run` is as `continuation_logits` has it."""
    labels_BS = jnp.maximum(batch["labels"], 0)
    logits_BSV = continuation_logits(model, params, batch, labels_BS[:, :-1], **run)
    weights_BS = (batch["labels"] >= 0) * batch["weights"][:, None]
    loss_BS = optax.softmax_cross_entropy_with_integer_labels(logits_BSV, labels_BS)
    return jnp.sum(loss_BS * weights_BS) / jnp.sum(weights_BS)


def loss(task: str, logits_BC: jax.Array, labels_B: jax.Array, weights_B: jax.Array) -> jax.Array:
    """Mean loss over examples, weighted: cross-entropy, or the squared error of a regression.

    Args:
      logits_BC: float32; a regression has C = 1.
      labels_B: int32 class ids or float32 targets.
      weights_B: float32, 0 for rows that only fill the batch.
    """
    if task == "regression":
        loss_B = jnp.square(logits_BC[:, 0] - labels_B)
    else:
        loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, labels_B)
    return jnp.sum(loss_B * weights_B) / jnp.sum(weights_B)


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
