"""What a model answers at the counts of a plan, and the alpha at which texts are so fast.

Counts are simulated: one compilation for each padded length, whatever the alpha or the profile.
"""

from collections.abc import Callable

import numpy as np

from latadj_jax.data.encoded import Encoded, encode_examples
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.elimination.plan import Plan
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks import losses as task_losses
from latadj_jax.training.settings import Settings


def alpha_of_speed(model: Model, lengths: np.ndarray, speed: float, padded: int = 0) -> float:
    """The alpha at which texts of these lengths are expected to be `speed` times as fast.

    Args:
      padded: the length that counts follow, as in the paper; 0: each text's own.
    """
    return largest_alpha(lambda alpha: expected(model, lengths, alpha, padded) >= speed)


def largest_alpha(fast: Callable[[float], bool]) -> float:
    """The largest alpha that is fast enough, where smaller ones are, too."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if fast(middle) else (low, middle)
    return low


def expected(model: Model, lengths: np.ndarray, alpha: float | None, padded: int = 0) -> float:
    """Expected speedup over dense, all texts together.

    The last layer leaves CLS alone whatever the profile, as in training and in the engine.
    """
    if padded:
        lengths = np.array([padded])
    return speedup_of(model.plan(alpha, int(lengths.max())).for_head(), lengths)


def speedup_of(plan: Plan, lengths: np.ndarray) -> float:
    """Expected speedup of a plan over dense, all texts together."""
    after = plan.table[lengths]
    into = np.concatenate([lengths[:, None], after[:, :-1]], axis=1)
    return float(plan.num_layers * lengths.sum() / (into / 4 + 3 * after / 4).sum())


def scored_texts(model: Model, settings: Settings) -> tuple[str, Encoded, np.ndarray]:
    """The part of the data that models are scored on: its name, its texts, their lengths."""
    examples = load_examples(settings.data, model.task, settings.seed)[1]
    name, of = next(iter(examples.items()))
    part = encode_examples(load_tokenizer(settings.model.source), of, settings.data)
    return name, part, np.array([len(example["input_ids"]) for example in part.examples])


def predict(model: Model, params, part: Encoded, plan: Plan, strategy: str) -> np.ndarray:
    """Predictions with the counts of a plan, whatever each batch is padded to."""
    buckets = default_buckets(plan.length)
    logits = logits_of(model, params, part, plan, strategy, buckets, 64)
    return task_losses.predictions(model.task, logits).astype(np.asarray(part.labels).dtype)


def logits_of(
    model: Model, params, part: Encoded, plan: Plan, strategy: str, buckets, batch_size: int
) -> np.ndarray:
    """Logits [N, labels] of every text, in order, with the counts of a plan."""
    logits = np.zeros((len(part.examples), len(model.config.labels)), np.float32)
    for indices, batch in part.batches(buckets, batch_size):
        valid_B = batch["attention_mask"].sum(axis=1).astype(np.int32)
        counts_by_layer = np.asarray(plan.example_counts(valid_B))
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
        out = simulate(model, params, inputs, counts_by_layer, strategy)
        logits[indices] = np.asarray(out.logits)[: len(indices)]
    return logits
