"""A task: what a model is for, and all that follows from it, in one record.

A record stands in the task's own file; registry.py has a line for each.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.output import Output


class Passes(Protocol):
    """The passes of a model with its parameters, as a task's `outcome` calls them."""

    def whole(self, batch: Mapping[str, Any], plan: Plan, restore: bool = False) -> Output:
        """As `latadj_jax.apply`."""

    def after(self, prompt: Mapping[str, Any], ids_BS: jax.Array, plan: Plan) -> jax.Array:
        """As `latadj_jax.continuation_logits`: [B, S + 1, V]."""


class Answer(NamedTuple):
    """What a text is answered, to be shown: labels, each with its probability, or values."""

    labels: tuple[tuple[str, float], ...] = ()
    values: tuple[float, ...] = ()


class Outcome(NamedTuple):
    """What a pass predicts, and what it should have; a loss is their distance.

    Attributes:
      logits: float32 [..., C].
      targets: int32 class or token ids [...], or float32 values, or a teacher's logits [..., C].
      weights: float32 [...], 0 for what only fills the batch.
    """

    logits: jax.Array
    targets: jax.Array
    weights: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """All that is known of one task.

    Attributes:
      head: the kind of head that it needs, see family.py.
      reads_all: function of a config that says whether the head reads every word-vector, or the
        protected ones alone.
      outputs: the fields of `Output` that answer it.
      metrics: names of what its predictions are measured by; () where it is not trained.
      check: function of a config that raises ValueError where the task cannot be that of its model.
      is_meant: function of a parsed config.json that says whether a checkpoint with the head is
        for this task and not for another with the same head.
      problem_type: what config.json calls it; "" where it has no name for it.
      marks: function of a config that gives what else config.json says of the task.
      marked_by: the keys of config.json that say so, older ones among them.
    """

    name: str
    head: str
    reads_all: Callable[[HfConfig], bool]
    outputs: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    agreement: str = ""  # the one of them that says how far a pass is from a teacher's
    check: Callable[[HfConfig], None] = lambda config: None
    is_meant: Callable[[Mapping[str, Any]], bool] = lambda hf: True
    problem_type: str = ""
    marks: Callable[[HfConfig], dict[str, Any]] = lambda config: {}
    marked_by: tuple[str, ...] = ()
    # Of one whose only output is a row of numbers for each text: function of a config that says how
    # many they are.
    width: Callable[[HfConfig], int] | None = None
    per_token: bool = False  # whether that is a row for each token
    reads_pairs: bool = False  # whether it reads pairs of texts alone
    new_labels: int | None = None  # of a new head, where nobody says how many
    any_labels: bool = False  # whether another task's head of the same kind is taken as it is

    # What it writes: "continuation" of a prompt, "target" after a source, or "" nothing.
    writes: str = ""

    # Of one that is trained:
    # What it learns from: a "class", a "value", several "classes", "tags" of words, the "span" of
    # an answer, the "likeness" of two texts, a target "text", or "": the text itself.
    labels: str = ""
    compares_rows: bool = False  # whether its losses are of several examples of a batch together
    # Functions of logits [..., C], targets [...] and weights [...], summed over all.
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    # The same, of a teacher's logits in place of targets.
    distance: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    outcome: Callable[[Passes, Mapping[str, Any], Plan], Outcome] | None = None
    # Of a batch and a plan: the sum of the weights that `outcome` gives.
    weight: Callable[[Mapping[str, Any], Plan], jax.Array] | None = None
    # What is made of its answers:
    # Of rows [N, ...], logits or embeddings: what the metrics compare with labels.
    predictions: Callable[[np.ndarray], np.ndarray] | None = None
    # Of a teacher's rows: what is learned from them.
    teaches: Callable[[np.ndarray], np.ndarray] | None = None
    answer: Callable[[Sequence[str], np.ndarray], Answer] | None = None  # of labels, logits [C]
    check_labels: Callable[[np.ndarray, int], None] | None = None  # of labels [N], their number

    @property
    def labelled(self) -> bool:
        """Whether its head gives a number for each label."""
        return self.width is one_for_each_label

    @property
    def named(self) -> bool:
        """Whether its labels have names."""
        return self.labels in ("class", "classes", "tags")

    def total_loss(self, outcome: Outcome) -> jax.Array:
        """Weighted sum of the losses; where the targets are a teacher's logits, of distances."""
        logits, targets, weights = outcome
        taught = targets.ndim == logits.ndim and self.labels != "classes"  # these are as many
        return (self.distance if taught else self.loss)(logits, targets, weights)


def one_for_each_label(config: HfConfig) -> int:
    """Of logits."""
    return len(config.labels)


def everything(config: HfConfig) -> bool:
    """Of a head that reads every word-vector that is left."""
    return True


def protected_alone(config: HfConfig) -> bool:
    """Of a head that reads CLS, or the last token."""
    return False


def labelled_outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of one row of logits for each text, from what its head reads: `labels` [B]."""
    logits_BC = passes.whole(batch, plan.for_head()).logits
    return Outcome(logits_BC, batch["labels"], batch["weights"])


def labelled_weight(batch: Mapping[str, Any], plan: Plan) -> jax.Array:
    """Of `labelled_outcome`: the number of texts, without those that only fill the batch."""
    return jnp.sum(batch["weights"])


def cross_entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of -log p(target); targets int32 [...]."""
    import optax  # of training alone

    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.sum(losses * weights)


def kl_divergence(logits: jax.Array, teacher: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of the KL divergences from a teacher's logits [..., C].

    Source: Hinton, Vinyals and Dean, arXiv 1503.02531.
    """
    log_teacher = jax.nn.log_softmax(jax.lax.stop_gradient(teacher))
    distances = jnp.sum(jnp.exp(log_teacher) * (log_teacher - jax.nn.log_softmax(logits)), axis=-1)
    return jnp.sum(distances * weights)
