"""What a model answers at the counts of a plan, and how much faster that is expected to be.

Counts are simulated: one compilation for each padded length, whatever the alpha or the profile.
"""

import numpy as np

from latadj_jax.data.encoded import Encoded, encode_examples
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training.settings import Settings


def expected(model: Model, lengths: np.ndarray, alpha: float | None, padded: int = 0) -> float:
    """Expected speedup over dense, all texts together.

    The last layer leaves CLS alone whatever the profile, as in training and in the engine.

    Args:
      padded: the length that counts follow, as in the paper; 0: each text's own.
    """
    lengths = np.array([padded]) if padded else lengths
    return expected_speedup(model.plan(alpha, int(lengths.max())).for_head(), lengths)


def scored_texts(model: Model, settings: Settings) -> tuple[str, Encoded, np.ndarray]:
    """The part of the data that models are scored on: its name, its texts, their lengths."""
    examples = load_examples(settings.data, model.record, settings.seed)[1]
    name, of = next(iter(examples.items()))
    part = encode_examples(load_tokenizer(settings.model.source), of, settings.data)
    return name, part, np.array([len(example["input_ids"]) for example in part.examples])


def predict(model: Model, params, part: Encoded, plan: Plan, strategy: str) -> np.ndarray:
    """Predictions with the counts of a plan, whatever each batch is padded to."""
    buckets = default_buckets(plan.length)
    logits = logits_of(model, params, part, plan, strategy, buckets, 64)
    return model.record.predictions(logits).astype(np.asarray(part.labels).dtype)


def logits_of(
    model: Model, params, part: Encoded, plan: Plan, strategy: str, buckets, batch_size: int
) -> np.ndarray:
    """Logits [N, labels] of every text, in order, with the counts of a plan."""
    logits = np.zeros((len(part.examples), len(model.config.labels)), np.float32)
    for indices, batch in part.batches(buckets, batch_size):
        valid_B = batch["attention_mask"].sum(axis=1).astype(np.int32)
        counts_by_layer = np.asarray(plan.example_counts(valid_B))
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
        out = simulate(model, params, inputs, counts_by_layer, strategy, plan.skipped)
        logits[indices] = np.asarray(out.logits)[: len(indices)]
    return logits
