"""What Prometheus is told."""

import jax.monitoring
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from latadj_jax.elimination.alpha import alpha_name

SECONDS = (
    0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.7, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Metrics:
    """One server's; each has its own registry."""

    def __init__(self):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "latadj_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.refusals = Counter(
            "latadj_refusals", "Requests refused, by the reason.", ("reason",), registry=registry
        )
        self.seconds = Histogram(
            "latadj_request_seconds", "From arrival to answer.", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.waited = Histogram(
            "latadj_waited_seconds", "Of a text, until its batch began.", buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.ran = Histogram(
            "latadj_ran_seconds", "Of a batch.", buckets=SECONDS, registry=registry
        )
        self.batch_sizes = Histogram(
            "latadj_batch_texts", "Texts of a batch.", buckets=SIZES, registry=registry
        )
        self.texts = Counter(
            "latadj_texts", "Texts answered, by their alpha.", ("alpha",), registry=registry
        )
        self.late = Counter(
            "latadj_late_requests", "Requests answered after their deadline.", registry=registry
        )
        self.compilations = Counter(
            "latadj_compilations", "Programs compiled, while starting and later.", ("when",),
            registry=registry,
        )  # fmt: skip
        for when in ("starting", "serving"):
            self.compilations.labels(when)
        self.started = False
        self.queued = Gauge("latadj_queue_texts", "Texts that wait.", registry=registry)
        self.queued_tokens = Gauge("latadj_queue_tokens", "Their tokens.", registry=registry)
        ProcessCollector(registry=registry)  # memory, processor time, open files
        jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._compiled)

    def watch(self, engine) -> None:
        """Follows an engine's batches and its queue."""
        engine.watch(self._batch)
        self.queued.set_function(lambda: engine.waiting[0])
        self.queued_tokens.set_function(lambda: engine.waiting[1])

    def page(self) -> bytes:
        return generate_latest(self.registry)

    def _batch(self, batch, ran_ms: float) -> None:
        self.ran.observe(ran_ms / 1e3)
        self.batch_sizes.observe(len(batch.requests))
        self.texts.labels(alpha_name(batch.shape.alpha)).inc(len(batch.requests))

    def _compiled(self, event: str, duration_s: float, **_) -> None:
        if event == COMPILE_EVENT:
            self.compilations.labels("serving" if self.started else "starting").inc()
