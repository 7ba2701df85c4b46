"""What a task is: its loss, and how logits become predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


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
