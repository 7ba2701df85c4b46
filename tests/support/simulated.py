"""An engine's queue with a clock of its own: nothing runs, times are drawn."""

import dataclasses
import math

import numpy as np

from latadj_jax.errors import Overloaded
from latadj_jax.serving.backlog import Request
from latadj_jax.serving.controller import Controller
from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.policy import Policy
from latadj_jax.serving.programs import Shape

ALPHAS = (None, 0.9, 0.8, 0.7)
TIMES_FASTER = {None: 1.0, 0.9: 1.5, 0.8: 2.0, 0.7: 3.0}
SIZES = (1, 8, 32)
DENSE_MS = {16: 2.0, 32: 4.0}  # of one text
SHARES = {1: 1.0, 8: 0.8, 32: 0.75}  # of that, what a text costs in a batch


def true_ms(shape: Shape) -> float:
    text_ms = SHARES[shape.batch_size] * DENSE_MS[shape.length] / TIMES_FASTER[shape.alpha]
    return text_ms * shape.batch_size


def table(alphas=ALPHAS) -> dict[Shape, Latency]:
    shapes = [Shape(n, size, a) for n in DENSE_MS for size in SIZES for a in alphas]
    return {shape: Latency(true_ms(shape), 1.1 * true_ms(shape)) for shape in shapes}


def controller(alphas=ALPHAS, **policy) -> Controller:
    return Controller(alphas, SIZES, LiveLatencies(table(alphas)), Policy(**policy))


def request(tokens=16, arrived_s=0.0, within_ms=math.inf, alpha="any") -> Request:
    bucket, within_s = min(n for n in DENSE_MS if n >= tokens), within_ms / 1e3
    return Request(
        None, tokens, bucket, alpha == "any", None if alpha == "any" else alpha, arrived_s,
        arrived_s + within_s, arrived_s + min(within_s, 10.0), arrived_s + 0.9 * within_s,
    )  # fmt: skip


@dataclasses.dataclass
class Outcome:
    """What became of each: `ends` and `alphas` of the answered ones."""

    ends: dict[Request, float] = dataclasses.field(default_factory=dict)
    alphas: dict[Request, float | None] = dataclasses.field(default_factory=dict)
    refused: list[Request] = dataclasses.field(default_factory=list)
    dropped: list[Request] = dataclasses.field(default_factory=list)

    @property
    def number(self) -> int:
        return len(self.ends) + len(self.refused) + len(self.dropped)

    @property
    def attained(self) -> float:
        """The share that was answered in time."""
        return sum(end <= request.deadline_s for request, end in self.ends.items()) / self.number

    @property
    def late(self) -> float:
        return sum(end > request.deadline_s for request, end in self.ends.items()) / self.number

    @property
    def dense(self) -> float:
        """Of those that were answered, the share that was so by the dense model."""
        return sum(alpha is None for alpha in self.alphas.values()) / len(self.alphas)

    @property
    def speedup(self) -> float:
        return float(np.mean([TIMES_FASTER[alpha] for alpha in self.alphas.values()]))


def simulate(controller, requests, run_ms=lambda shape, now_s: true_ms(shape)) -> Outcome:
    """All `requests`, in the order of their arrivals; `run_ms` is what a batch takes."""
    outcome, coming, now_s = Outcome(), list(requests)[::-1], 0.0
    while coming or controller.waiting:
        if not controller.waiting:
            now_s = max(now_s, coming[-1].arrived_s)
        admit(controller, coming, now_s, outcome)
        outcome.dropped += controller.drop_late(now_s)
        if not controller.waiting:
            continue
        batch = controller.take(now_s)
        ms = run_ms(batch.shape, now_s)
        end_s = now_s + ms / 1e3
        admit(controller, coming, end_s, outcome)
        controller.finished(batch, ms, end_s)
        now_s = end_s
        outcome.ends |= dict.fromkeys(batch.requests, end_s)
        outcome.alphas |= dict.fromkeys(batch.requests, batch.shape.alpha)
    return outcome


def admit(controller, coming, now_s, outcome) -> None:
    while coming and coming[-1].arrived_s <= now_s:
        request = coming.pop()
        try:
            controller.admit([request], request.arrived_s)
        except Overloaded:
            outcome.refused.append(request)


def poisson(load: float, number: int, seed: int = 0, **asked) -> list[Request]:
    """Texts of 16 and 32 tokens in turn; `load` 1 is as many as the dense model can serve."""
    rng = np.random.default_rng(seed)
    capacity = 1e3 / (SHARES[8] * np.mean([*DENSE_MS.values()]))  # texts a second
    arrivals_s = np.cumsum(rng.exponential(1 / (load * capacity), number))
    lengths = rng.choice([*DENSE_MS], number)
    return [request(int(n), float(s), **asked) for n, s in zip(lengths, arrivals_s, strict=True)]
