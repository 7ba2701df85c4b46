"""When what waits would be done: an estimate, by what each program takes now."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.programs import Shape


class Served(NamedTuple):
    """How a request was served.

    Attributes:
      alpha: None is dense.
      speedup: over dense, expected at this length.
      waited_ms: from its arrival until its batch began.
      ran_ms: of its batch.
      late_ms: after its deadline; 0 in time.
    """

    alpha: float | None
    speedup: float
    waited_ms: float
    ran_ms: float
    late_ms: float = 0.0


class Reply(Future):
    """The future row of a request; `served` is there as soon as the row is."""

    served: Served | None = None


@dataclasses.dataclass(eq=False)
class Request:
    """A text that waits.

    Attributes:
      example: its inputs.
      tokens: how many it has.
      bucket: the padded length that it is to run at.
      adaptive: whether its alpha is to be chosen.
      alpha: if not, the one that it is given.
      deadline_s: on the clock of `arrived_s`; infinite without one.
      turn_s: requests are served in this order.
      aim_s: until when it is planned to be done.
    """

    example: Any
    tokens: int
    bucket: int
    adaptive: bool
    alpha: float | None
    arrived_s: float
    deadline_s: float
    turn_s: float
    aim_s: float
    reply: Reply = dataclasses.field(default_factory=Reply)


class Way(NamedTuple):
    """A way to run requests of one bucket: the program, its time, and what a text costs so."""

    shape: Shape
    ms: float
    ms_a_text: float


class Ways:
    """The cheapest way for so many texts of a bucket, at a level of alphas; as of one moment.

    Level n allows the first n + 1 of the alphas, which come slowest first.
    """

    FASTER = 0.98  # of the time: an alpha that takes more of it is not faster
    LARGER = 1.03  # a larger batch has to save so much of a text's time to be better

    def __init__(
        self,
        live: LiveLatencies,
        alphas: Sequence[float | None],
        sizes: Sequence[int],
        most_ms: float,
        now_s: float,
    ):
        """
        Args:
          most_ms: what a batch may take, where a smaller one can do.
        """
        self.alphas, self._live, self._sizes = alphas, live, sizes
        self._most_ms, self._now_s = most_ms, now_s
        self._bound_ms: dict[tuple, list[tuple[Shape, float]]] = {}
        self._best: dict[tuple, Way | None] = {}

    def _programs(self, bucket: int, alpha: float | None) -> list[tuple[Shape, float]]:
        """Those that there are, by their batch sizes, and what each is bound to take."""
        key = bucket, alpha
        if key not in self._bound_ms:
            shapes = (Shape(bucket, size, alpha) for size in self._sizes)
            self._bound_ms[key] = [
                (shape, self._live.bound_ms(shape, self._now_s))
                for shape in shapes
                if shape in self._live
            ]
        return self._bound_ms[key]

    def at(
        self, bucket: int, count: int, alpha: float | None, spared_ms: Sequence[float] = (0.0,)
    ) -> list[Way]:
        """Every batch size that is short enough, the best first, at one alpha.

        Args:
          spared_ms: what 0, 1, ... texts that fill free rows would take by themselves.
        """
        found = []
        for shape, ms in self._programs(bucket, alpha):
            own = min(shape.batch_size, count)
            spared = spared_ms[min(shape.batch_size - own, len(spared_ms) - 1)]
            found.append(Way(shape, ms, (ms - spared) / own))
        short = [way for way in found if way.ms <= self._most_ms] or found[:1]
        ranked = [(way.ms_a_text * self.LARGER**n, n) for n, way in enumerate(short)]
        return [short[n] for _, n in sorted(ranked)]

    def best(self, bucket: int, count: int, level: int) -> Way | None:
        """The cheapest way at a level; None where nothing is compiled yet."""
        key = (bucket, min(count, self._sizes[-1]), level)
        if key not in self._best:
            slower = self.best(bucket, count, level - 1) if level else None
            faster = self.at(bucket, count, self.alphas[level])
            is_faster = faster and (
                slower is None or faster[0].ms_a_text < self.FASTER * slower.ms_a_text
            )
            self._best[key] = faster[0] if is_faster else slower
        return self._best[key]

    def of(self, request: Request, count: int, level: int) -> Way | None:
        """The cheapest way for `count` texts like this one."""
        if request.adaptive:
            return self.best(request.bucket, count, level)
        return next(iter(self.at(request.bucket, count, request.alpha)), None)


class Backlog:
    """Requests in the order of their turns; deadlines and ends are arrays [N] of seconds."""

    def __init__(self, requests: Sequence[Request], ways: Ways):
        self._ways, self._groups = ways, {}
        group_N = []
        for request in requests:
            key = (request.bucket, request.adaptive, request.alpha)
            group_N.append(self._groups.setdefault(key, (len(self._groups), request))[0])
        self._group_N = np.array(group_N, np.intp)
        self.aim_N = np.array([request.aim_s for request in requests])
        self.deadline_N = np.array([request.deadline_s for request in requests])

    def ends(self, start_s: float, level: int, taken: Sequence[int] = ()) -> np.ndarray:
        """When each is done if what waits begins at `start_s`; those `taken` are done already.

        A request costs its share of its batch, and ends with the batch: after the shares of those
        before it and of the others of its batch.
        """
        counted_N = np.ones(len(self._group_N), bool)
        counted_N[list(taken)] = False
        share_N, rest_N = np.zeros(len(counted_N)), np.zeros(len(counted_N))
        for number, request in self._groups.values():
            own_N = np.flatnonzero(counted_N & (self._group_N == number))
            if not len(own_N) or (way := self._ways.of(request, len(own_N), level)) is None:
                continue
            place_N, size = np.arange(len(own_N)), way.shape.batch_size
            end_N = np.minimum((place_N // size + 1) * size, len(own_N))
            share_N[own_N] = way.ms_a_text
            rest_N[own_N] = way.ms_a_text * (end_N - 1 - place_N)
        done_N = start_s + (np.cumsum(share_N) + rest_N) / 1e3
        return np.where(counted_N, done_N, -np.inf)
