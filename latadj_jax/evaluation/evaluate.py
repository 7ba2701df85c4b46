"""Evaluation of one model at several alphas: quality, expected and measured speed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from latadj_jax.data.encoded import Encoded
from latadj_jax.devices.mesh import fetch, place_batch, place_timed_batch
from latadj_jax.elimination.alpha import alpha_label
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.speedup import expected_speedup, macs
from latadj_jax.evaluation.conditions import conditions
from latadj_jax.evaluation.metrics import label_metrics
from latadj_jax.evaluation.results import Results, Row
from latadj_jax.evaluation.settings import EvalSettings
from latadj_jax.model.apply import apply
from latadj_jax.model.model import Model, rngs_for
from latadj_jax.timing import interleaved_ms, median


def predict(
    model: Model, params, data: Encoded, plans: Mapping[int, Plan], batch_size: int, progress: str
) -> np.ndarray:
    """Predictions of every example, in order: class ids or regression values, [N].

    Args:
      plans: the plan of each bucket.
      progress: the progress bar's label.
    """
    logits_NC = outputs_of(model, params, data, plans, batch_size, progress)
    return model.record.predictions(logits_NC).astype(np.asarray(data.labels).dtype)


def outputs_of(
    model: Model, params, data: Encoded, plans: Mapping[int, Plan], batch_size: int, progress: str
) -> np.ndarray:
    """What the model gives for every example, in order: logits or embeddings, float32 [N, C].

    Of a model that gives a row for each token [N, T, C], T that of the longest bucket; 0 behind a
    text's end. Arguments as of `predict`.
    """
    per_token = (max(plans),) if model.record.per_token else ()
    rows = np.zeros((len(data.examples), *per_token, model.row_width), np.float32)
    (output,) = model.record.outputs
    number = len(data.groups(sorted(plans), batch_size))
    batches = data.batches(sorted(plans), batch_size)
    for indices, batch in tqdm(batches, progress, number, unit="batch", leave=False):
        length = batch["input_ids"].shape[1]
        plan = plans[length]
        out = apply(model, params, place_batch(batch), plan=plan, rngs=rngs_for(plan))
        found = fetch(getattr(out, output))[: len(indices)]
        if per_token:
            is_token = batch["attention_mask"][: len(indices), :, None] != 0
            rows[indices, :length] = np.where(is_token, found, 0.0)
        else:
            rows[indices] = found
    return rows


def evaluate(
    model: Model,
    params,
    parts: Mapping[str, Encoded],
    alphas: Sequence[float],
    settings: EvalSettings,
    buckets: Sequence[int],
    count: str = "valid",
    score: Callable[..., dict[str, float]] | None = None,
    unit: str = "examples",
    speedups: Sequence[float] = (),
    served: bool = False,
) -> Results:
    """Quality and speed, dense and at each alpha.

    Args:
      parts: evaluation data by name; times are taken on the first.
      buckets: padded lengths.
      count: as of `make_plan`.
      score: function of (part's name, part, plan of each bucket, label of a progress bar) that
        gives the metrics; by default those of `predict`. Times are those of `model.encoder`.
      unit: what the report says they are.
      speedups: in place of alphas, over dense: expected over the texts of the first part, each by
        its own length. Their alphas are "asked".
      served: whether passes, the dense one as well, compute no more than the head reads, as the
        engine's do.

    Returns:
      what `report` makes tables and sentences of. `expected_speedup` and `macs` are those of the
      padded length of each example; times are the median of one batch of each bucket, in turns,
      times the number of its batches.

    Raises:
      ValueError: no examples, labels out of range, or an alpha that cannot work.
    """
    if not parts:
        raise ValueError("there is no evaluation data.")
    for name, part in parts.items():
        if not part.examples:
            raise ValueError(f"the evaluation data {name!r} holds no examples.")
        if score is None:
            model.record.check_labels(part.labels, len(model.config.labels))

    def score_labels(name: str, part: Encoded, by_bucket, label: str) -> dict[str, float]:
        predicted = predict(model, params, part, by_bucket, settings.batch_size, label)
        return label_metrics(settings.metrics, part.labels, predicted, len(model.config.labels))

    first = next(iter(parts.values()))
    lengths = first.lengths
    if count == "padded":
        lengths = [max(buckets)]
    solved = [model.solve_alpha(lengths, speedup) for speedup in speedups]
    plan_of = model.head_plan if served else lambda plan: plan
    plans = {
        alpha: {bucket: plan_of(model.plan(alpha, bucket, count=count)) for bucket in buckets}
        for alpha in (None, *dict.fromkeys((*alphas, *solved)))
    }
    times_ms = _times_ms(model.encoder, params, first, plans, settings)
    rows = []
    for alpha, by_bucket in plans.items():
        scores = {}
        for name, part in parts.items():
            label = f"{name} {alpha_label(alpha)}"
            scores[name] = (score or score_labels)(name, part, by_bucket, label)
        rows.append(
            Row(
                alpha=alpha,
                metrics=scores,
                measured_speedup=times_ms[None] / times_ms[alpha],
                ms_per_example=times_ms[alpha] / len(first.examples),
                **_work(model, first, by_bucket),
            )
        )
    return Results(
        metrics=list(settings.metrics),
        examples={name: len(part.examples) for name, part in parts.items()},
        unit=unit,
        timing=f"median wall-clock time of a batch of {settings.batch_size} at each padded "
        "length, weighted by the number of batches",
        work="those of the padded length that each example fits into (what is left over may run "
        "at a longer one)",
        **conditions(model, count, settings.batch_size),
        asked=[list(pair) for pair in zip(speedups, solved, strict=True)] or None,
        rows=rows,
    )


def _times_ms(model, params, data: Encoded, plans, settings: EvalSettings) -> dict:
    """Time of the whole data at each alpha: a batch of each bucket, times their number."""
    of_bucket: dict[int, list] = {}
    for _, batch in data.batches(sorted(plans[None]), settings.batch_size):
        of_bucket.setdefault(batch["input_ids"].shape[1], []).append(batch)
    total_ms = dict.fromkeys(plans, 0.0)
    for bucket, batches in tqdm(of_bucket.items(), desc="timing", unit="bucket", leave=False):
        runs = {
            alpha: _run(model, params, place_timed_batch(batches[0]), by_bucket[bucket])
            for alpha, by_bucket in plans.items()
        }
        for alpha, times in interleaved_ms(runs, settings.timing_repeats).items():
            total_ms[alpha] += median(times) * len(batches)
    return total_ms


def _run(model, params, batch, plan: Plan):
    def run():
        out = apply(model, params, batch, plan=plan, rngs=rngs_for(plan))
        found = (getattr(out, name) for name in ("logits", "embedding", "hidden"))
        return next(x for x in found if x is not None)

    return run


def _work(model: Model, data: Encoded, by_bucket: Mapping[int, Plan]) -> dict:
    """Expected speedup, multiply-accumulates and what remains, over the examples of `data`."""
    lengths = np.array(data.lengths)
    buckets = np.array(sorted(by_bucket))
    padded = buckets[np.searchsorted(buckets, lengths)]
    remaining, dense_work, work, total_macs = np.zeros(model.config.num_layers), 0.0, 0.0, 0
    for bucket in np.unique(padded):
        plan, of_bucket = by_bucket[int(bucket)], lengths[padded == bucket]
        counts = np.asarray(plan.example_counts(of_bucket.astype(np.int32)))
        remaining += (counts / of_bucket[:, None]).sum(axis=0)
        dense_work += len(of_bucket) * plan.length
        work += len(of_bucket) * plan.length / expected_speedup(plan)
        total_macs += len(of_bucket) * macs(model, plan)
    return {
        "expected_speedup": dense_work / work,
        "macs": total_macs / len(lengths),
        "remaining": (remaining / len(lengths)).tolist(),
        "skipped": list(by_bucket[max(by_bucket)].skipped) or None,
    }
