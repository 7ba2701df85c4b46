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

    def answered(self, batch: Mapping[str, Any], plan: Plan) -> Output:
        """As `whole`, without what the head does not read."""

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

    What it reads and gives:
      head: the kind of head that it needs, see family.py.
      reads_all: function of a config. Whether the head reads every word-vector, or only the
        protected ones.
      reads_pairs: whether its inputs are pairs of texts, never single texts.
      outputs: the fields of `Output` that answer it.
      width: function of a config. How many numbers a row of its output has; None if its output is
        not rows of numbers.
      per_token: whether each token has such a row, or each text.
      writes: "continuation" of a prompt, "target" after a source, or "" nothing.

    How a checkpoint says that it is for this task:
      check: function of a config. Raises ValueError if the task cannot be that of its model.
      is_meant: function of a parsed config.json. Whether a checkpoint with the head is for this
        task, not for another with the same head.
      problem_type: its name in config.json; "" if it has none there.
      marks: function of a config. What else config.json says of the task.
      marked_by: the keys of config.json that do, older ones among them.
      new_labels: how many labels a new head has by default.
      any_labels: whether another task's head of the same kind is taken with the labels it has.

    How it is trained; None or "" where it is not:
      labels: what it learns from: a "class", a "value", several "classes", "tags" of words, the
        "span" of an answer, the "likeness" of two texts, a target "text", or "": the text itself.
      outcome: function of (passes, batch, plan). What a pass predicts, as an `Outcome`.
      weight: function of (batch, plan). The sum of the weights in that outcome.
      loss: function of logits [..., C], targets [...] and weights [...]: a weighted sum.
      distance: the same of a teacher's logits [..., C] in place of targets.
      compares_rows: whether these compare the examples of a batch with each other.
      teaches: function of a teacher's rows [N, ...]. What is learned from them.
      check_labels: function of labels [N, ...] and how many names there are. Raises ValueError.

    How it is measured and shown:
      metrics: the names of its metrics.
      agreement: the metric that compares a pass with a teacher's answers.
      predictions: function of rows [N, ...]. What metrics compare with labels.
      answer: function of the names of labels and logits [C], as an `Answer`.
    """

    name: str
    head: str
    reads_all: Callable[[HfConfig], bool]
    outputs: tuple[str, ...]
    reads_pairs: bool = False
    width: Callable[[HfConfig], int] | None = None
    per_token: bool = False
    writes: str = ""

    check: Callable[[HfConfig], None] = lambda config: None
    is_meant: Callable[[Mapping[str, Any]], bool] = lambda hf: True
    problem_type: str = ""
    marks: Callable[[HfConfig], dict[str, Any]] = lambda config: {}
    marked_by: tuple[str, ...] = ()
    new_labels: int | None = None
    any_labels: bool = False

    labels: str = ""
    outcome: Callable[[Passes, Mapping[str, Any], Plan], Outcome] | None = None
    weight: Callable[[Mapping[str, Any], Plan], jax.Array] | None = None
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    distance: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    compares_rows: bool = False
    teaches: Callable[[np.ndarray], np.ndarray] | None = None
    check_labels: Callable[[np.ndarray, int], None] | None = None

    metrics: tuple[str, ...] = ()
    agreement: str = ""
    predictions: Callable[[np.ndarray], np.ndarray] | None = None
    answer: Callable[[Sequence[str], np.ndarray], Answer] | None = None

    @property
    def labelled(self) -> bool:
        """Whether its head gives a number for each label."""
        return self.width is one_for_each_label

    @property
    def named(self) -> bool:
        """Whether its labels have names."""
        return self.labels in ("class", "classes", "tags")

    def total_loss(self, outcome: Outcome) -> jax.Array:
        """Weighted sum of the losses, or of the distances if the targets are a teacher's logits."""
        logits, targets, weights = outcome
        # A teacher's have as many axes as the logits. So have labels of several classes, and a
        # teacher's probabilities of them are targets like these.
        taught = targets.ndim == logits.ndim and self.labels != "classes"
        return (self.distance if taught else self.loss)(logits, targets, weights)


def check_each(ok_N: np.ndarray, labels: np.ndarray, rule: str, what: str = "label") -> None:
    """Raises ValueError that names the first example whose label is not as it must be."""
    if not ok_N.all():
        row = int(np.argmin(ok_N))
        raise ValueError(f"{what} {labels[row].tolist()} of example {row} must be {rule}.")


def values_of(labels: Sequence[str], logits_C: np.ndarray) -> Answer:
    """The answer of a head that gives values, as they are."""
    return Answer(values=tuple(float(value) for value in logits_C))


def one_for_each_label(config: HfConfig) -> int:
    """Of logits."""
    return len(config.labels)


def everything(config: HfConfig) -> bool:
    """Of a head that reads every word-vector that is left."""
    return True


def as_its_classifier(config: HfConfig) -> bool:
    """Of a classifier, which in most families reads CLS, or the last token, alone."""
    return config.classifier_reads_all


def labelled_outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Of one row of logits for each text, from what its head reads: `labels` [B]."""
    logits_BC = passes.answered(batch, plan).logits
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
