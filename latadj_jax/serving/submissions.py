"""What an engine does with texts that are submitted: the queue between them and the programs."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from latadj_jax.elimination.alpha import alpha_label
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.model.buckets import bucket_of
from latadj_jax.model.model import Model
from latadj_jax.serving.backlog import Reply, Request
from latadj_jax.serving.controller import Batch, Controller
from latadj_jax.serving.dispatcher import Dispatcher
from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.policy import Policy
from latadj_jax.serving.programs import Shape
from latadj_jax.serving.runtime import Runtime

Choose = Callable[[int], float | None]  # the alpha that serves a bucket


class Submissions:
    """Encoded texts become requests, and requests replies; the thread begins with the first.

    Attributes:
      live: the times that the controller goes by.
    """

    def __init__(
        self,
        model: Model,
        programs: Runtime,
        alphas: Sequence[float | None],
        buckets: Sequence[int],
        sizes: Sequence[int],
        policy: Policy,
        max_wait_ms: float,
    ):
        """As `Engine` has them: alphas slowest first, the others ascending.

        Raises:
          ValueError: the policy leaves no alpha.
        """
        self.live = LiveLatencies({})
        self._model, self._programs, self._buckets = model, programs, buckets
        self._policy, self._max_wait_ms = policy, max_wait_ms
        allowed = policy.allowed(model, alphas, buckets[-1])
        self._controller = Controller(allowed, sizes, self.live, policy, programs.fills)
        self._dispatcher, self._closed = None, False
        self._starting = threading.Lock()
        self._watching: list[Callable[[Batch, float], None]] = []
        self._speedups: dict[tuple, float] = {}

    def submit(
        self,
        examples: Sequence[Mapping[str, np.ndarray]],
        choose: Choose | None,
        latency_ms: float | None,
        arrived_s: float,
    ) -> list[Reply]:
        """Their future rows; `choose` is None where the controller is to choose.

        Raises:
          ValueError: they take longer than `latency_ms` even if nothing else waits.
          Overloaded: see `Controller.admit`.
        """
        if not examples:
            return []
        requests = [self._request(one, choose, latency_ms, arrived_s) for one in examples]
        if latency_ms is not None:
            self._check_possible(requests, latency_ms)
        self._started().submit(requests)
        return [request.reply for request in requests]

    def waiting(self) -> tuple[int, int]:
        """Requests that wait, and their tokens."""
        return self._dispatcher.waiting() if self._dispatcher else (0, 0)

    def watch(self, on_batch: Callable[[Batch, float], None]) -> None:
        """Has a function told of each batch and its milliseconds."""
        self._watching.append(on_batch)

    def close(self) -> None:
        """Answers what was submitted, then ends the thread."""
        with self._starting:
            self._closed = True
        if self._dispatcher is not None:
            self._dispatcher.close()

    # ---- inside ---------------------------------------------------------------------------

    def _started(self) -> Dispatcher:
        with self._starting:
            if self._closed:
                raise RuntimeError("the engine is closed; it takes no more requests.")
            if self._dispatcher is None:
                self._dispatcher = Dispatcher(
                    self._controller, self._run, self._speedup_of, self._max_wait_ms, self._tell
                )
            return self._dispatcher

    def _request(self, example, choose: Choose | None, latency_ms, arrived_s: float) -> Request:
        tokens = len(example["input_ids"])
        bucket = self._bucket(tokens, choose)
        within_s = math.inf if latency_ms is None else latency_ms / 1e3
        return Request(
            example, tokens, bucket,
            adaptive=choose is None,
            alpha=choose(bucket) if choose else None,
            arrived_s=arrived_s,
            deadline_s=arrived_s + within_s,
            turn_s=arrived_s + min(within_s, self._policy.patience_s),
            aim_s=arrived_s + (1 - self._policy.reserve) * within_s,
        )  # fmt: skip

    def _bucket(self, tokens: int, choose: Choose | None) -> int:
        """The smallest that holds it, of those for which something is compiled."""
        buckets = [
            bucket
            for bucket in self._buckets
            for alpha in (self._controller.alphas if choose is None else (choose(bucket),))
            if any(Shape(bucket, size, alpha) in self.live for size in self._controller.sizes)
        ]
        return bucket_of(tokens, buckets)

    def _check_possible(self, requests: Sequence[Request], latency_ms: float) -> None:
        least_ms = self._controller.least_ms(requests)
        if least_ms > latency_ms:
            first = requests[0]
            alpha = self._controller.alphas[-1] if first.adaptive else first.alpha
            raise ValueError(
                f"{latency_ms:g} ms are not enough: the text(s) take {least_ms:.1f} ms at "
                f"{alpha_label(alpha)}; allow more."
            )

    def _run(self, batch: Batch) -> list[np.ndarray]:
        rows = self._programs.run(batch.shape, [request.example for request in batch.requests])
        if not self._model.record.per_token:
            return list(rows)
        return [row[: request.tokens] for row, request in zip(rows, batch.requests, strict=True)]

    def _speedup_of(self, request: Request, alpha: float | None) -> float:
        key = (request.tokens, request.bucket, alpha)
        if key not in self._speedups:
            plan = self._model.plan(alpha, request.bucket)
            self._speedups[key] = expected_speedup(plan, request.tokens)
        return self._speedups[key]

    def _tell(self, batch: Batch, ran_ms: float) -> None:
        for on_batch in self._watching:
            on_batch(batch, ran_ms)
