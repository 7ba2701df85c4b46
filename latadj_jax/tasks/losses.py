"""Losses and predictions of each task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


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
