"""What the page shows, as numbers: counted since the start, so that who asks twice has what came
between."""

import time
from collections.abc import Collection

from latadj_jax.serving.http.about_routes import speeds_of
from latadj_jax.serving.http.metrics import SECONDS, Metrics
from latadj_jax.serving.http.service import Service


def stats_of(service: Service, paths: Collection[str]) -> dict:
    """Of the requests to `paths`; times are in seconds."""
    engine, settings, metrics = service.engine, service.settings, service.metrics
    texts, tokens = engine.waiting
    return {
        "time_s": time.monotonic(),
        "model": settings.name,
        "task": engine.model.task,
        "ready": service.ready,
        "starting": service.starting,
        "slo_ms": settings.slo_ms,
        "speeds": speeds_of(engine),
        "queue": {"texts": texts, "tokens": tokens},
        "requests": _requests(metrics, paths),
        "late": metrics.registry.get_sample_value("latadj_late_requests_total"),
        "refusals": _counts(metrics.refusals, "reason"),
        "texts": _counts(metrics.texts, "alpha"),
        "seconds": {"edges": SECONDS, "counts": _seconds(metrics, paths)},
    }


def _samples(metric, suffix: str) -> list:
    (family,) = metric.collect()
    return [sample for sample in family.samples if sample.name == family.name + suffix]


def _counts(counter, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in _samples(counter, "_total")}


def _requests(metrics: Metrics, paths: Collection[str]) -> dict[str, float]:
    """By their status."""
    found: dict[str, float] = {}
    for sample in _samples(metrics.requests, "_total"):
        if sample.labels["route"] in paths:
            status = sample.labels["status"]
            found[status] = found.get(status, 0) + sample.value
    return found


def _seconds(metrics: Metrics, paths: Collection[str]) -> list[float]:
    """How many answers took so long: one number for each bucket, the last for all above."""
    upto = dict.fromkeys((*SECONDS, float("inf")), 0.0)
    for sample in _samples(metrics.seconds, "_bucket"):
        if sample.labels["route"] in paths:
            upto[float(sample.labels["le"])] += sample.value
    counts = list(upto.values())
    return [own - before for own, before in zip(counts, [0.0, *counts], strict=False)]
