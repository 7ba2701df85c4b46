"""Ranking: how well a document answers a query, of a model that reads both at once.

As the CrossEncoder of sentence-transformers has it: its scores are logits after an activation,
which a checkpoint names.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from latadj_jax.families.family import SEQUENCE
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.tasks.classification import num_labels_of
from latadj_jax.tasks.multi_label import binary_cross_entropy, probabilities
from latadj_jax.tasks.task import (
    Task,
    as_its_classifier,
    check_each,
    labelled_outcome,
    labelled_weight,
    one_for_each_label,
    values_of,
)

# Of torch.nn, by name, as a CrossEncoder's config names them. By NumPy: nothing is compiled while
# an engine serves.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x_NC: x_NC,
    "Sigmoid": probabilities,
    "Tanh": np.tanh,
    "Softmax": lambda x_NC: scipy.special.softmax(x_NC, axis=-1),
}
# Keys of config.json that name it: that of version 4 and later, and that of older ones.
MARK, OLD_MARK = "sentence_transformers", "sbert_ce_default_activation_function"


def activation_path(hf: Mapping[str, Any]) -> str | None:
    """What a parsed config.json names, e.g. "torch.nn.modules.activation.Sigmoid"; or nothing."""
    marks = hf.get(MARK)
    named = marks.get("activation_fn") if isinstance(marks, Mapping) else None
    return named or hf.get(OLD_MARK)


def activation_name(config: HfConfig) -> str:
    """A name of ACTIVATIONS; by default Sigmoid for one label and Identity for several.

    Raises:
      ValueError: one that is not implemented.
    """
    path = activation_path(json.loads(config.hf))
    if path is None:
        return "Sigmoid" if len(config.labels) == 1 else "Identity"
    name = str(path).rsplit(".", 1)[-1]
    if not str(path).startswith("torch.nn") or name not in ACTIVATIONS:
        raise ValueError(
            f"config.json: the activation {path!r} of the scores is not implemented; implemented "
            f"are {', '.join(ACTIVATIONS)} of torch.nn."
        )
    return name


def scores(config: HfConfig, logits_NC: np.ndarray) -> np.ndarray:
    """What CrossEncoder.predict gives: float32 [N, C], logits after the checkpoint's activation."""
    logits_NC = np.asarray(logits_NC, np.float32)
    return np.asarray(ACTIVATIONS[activation_name(config)](logits_NC), np.float32)


def check_one_score(config: HfConfig) -> None:
    """Raises ValueError for a model that gives a pair several scores, which rank nothing."""
    if len(config.labels) != 1:
        raise ValueError(
            f"the model gives {len(config.labels)} scores to a pair; ranking needs one: call an "
            f"engine with pairs, and choose."
        )


def _check(config: HfConfig) -> None:
    activation_name(config)


def _marks(config: HfConfig) -> dict[str, Any]:
    """What tells a CrossEncoder from another classifier."""
    name = activation_name(config)
    home = "linear" if name == "Identity" else "activation"
    return {MARK: {"activation_fn": f"torch.nn.modules.{home}.{name}"}}


def _is_meant(hf: Mapping[str, Any]) -> bool:
    """One label and an activation; a CrossEncoder with several labels classifies pairs."""
    return activation_path(hf) is not None and num_labels_of(hf) == 1


def _loss(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of -log p(relevant or not); logits [..., 1], targets [...] in 0..1."""
    return binary_cross_entropy(logits, targets[..., None], weights)


def _distance(logits: jax.Array, teacher: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of squared errors of the logits, mean over the labels."""
    squares = jnp.square(logits - jax.lax.stop_gradient(teacher))
    return jnp.sum(squares.mean(axis=-1) * weights)


def _check_labels(labels_N: np.ndarray, num_labels: int) -> None:
    labels_N = np.asarray(labels_N)
    check_each((labels_N >= 0) & (labels_N <= 1), labels_N, "in 0..1, a relevance")


RANKING = Task(
    name="ranking",
    head=SEQUENCE,
    reads_all=as_its_classifier,
    outputs=("logits",),
    width=one_for_each_label,
    metrics=("map", "mrr", "ndcg", "spearman"),
    agreement="spearman",
    check=_check,
    is_meant=_is_meant,
    marks=_marks,
    marked_by=(MARK, OLD_MARK),
    new_labels=1,
    any_labels=True,
    labels="value",
    reads_pairs=True,
    loss=_loss,
    distance=_distance,
    outcome=labelled_outcome,
    weight=labelled_weight,
    predictions=lambda logits_NC: logits_NC[:, 0],
    teaches=lambda logits_NC: logits_NC,
    answer=values_of,
    check_labels=_check_labels,
)
