"""Which of the waiting requests run next, together and at which alpha; and which are refused.

Earliest deadline first. For each batch the controller takes the slowest alpha with which all that
waits is expected to be in time, so that an engine with little to do runs dense. A request that not
even the fastest alpha can serve in time is refused when it comes. Nothing here waits, runs or reads
a clock; dispatcher.py does.

Source: SuperServe's SlackFit (arXiv 2312.16733) chooses by the slack of the most urgent request;
here the whole queue counts.
"""

import bisect
import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from latadj_jax.errors import Overloaded
from latadj_jax.serving.backlog import Backlog, Request, Way, Ways
from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.policy import Policy
from latadj_jax.serving.programs import Shape

WAYS_S = 0.05  # for so long what programs take is thought to stay, if none runs


@dataclasses.dataclass(frozen=True)
class Batch:
    """Requests to be run together; `number` of each is its place in the queue."""

    shape: Shape
    requests: tuple[Request, ...]
    numbers: tuple[int, ...]
    ms: float


class Controller:
    """The queue, and what is taken from it. Times are seconds of one clock, of any beginning."""

    def __init__(
        self,
        alphas: Sequence[float | None],
        sizes: Sequence[int],
        live: LiveLatencies,
        policy: Policy,
        fills: bool = True,
    ):
        """
        Args:
          alphas: those to choose from, slowest first.
          sizes: batch sizes, ascending.
          fills: see `Runtime`.
        """
        self.alphas, self.sizes, self.live, self.policy = tuple(alphas), tuple(sizes), live, policy
        self.fills = fills
        self.waiting: list[Request] = []  # in the order of their turns
        self._running, self._busy_until_s = False, -math.inf
        self._needed_s: dict[int, float] = {}  # when each level was last needed
        self._ways_known: tuple[tuple, Ways] | None = None  # and what they depend on

    @property
    def waiting_tokens(self) -> int:
        return sum(request.tokens for request in self.waiting)

    # ---- those who come -------------------------------------------------------------------

    def admit(self, requests: Sequence[Request], now_s: float) -> None:
        """All of them wait from now on, or none.

        Raises:
          Overloaded: one of them, or one whose turn is after theirs, would be late at the fastest
            alpha (if others wait or run, the reserve is kept); or there is no room.
        """
        everything = sorted([*self.waiting, *requests], key=_turn)
        ways = self._ways(everything, now_s)
        backlog = Backlog(everything, ways)
        end_N = backlog.ends(max(now_s, self._busy_until_s), len(self.alphas) - 1)
        self._check_room(requests, end_N, now_s)
        first = min(bisect.bisect_left(everything, r.turn_s, key=_turn) for r in requests)
        idle = not self.waiting and not self._running
        by_N = backlog.deadline_N if idle else backlog.aim_N
        late_s = float((end_N - by_N)[first:].max(initial=-math.inf))
        if late_s > 0:
            raise Overloaded(
                f"there is too much to do: this would take {1e3 * late_s:.0f} ms too long; try "
                f"again later, or allow more time.",
                late_s,
            )
        self.waiting = everything

    def _check_room(self, requests: Sequence[Request], end_N: np.ndarray, now_s: float) -> None:
        for most, waiting, new, what in (
            (self.policy.max_waiting, len(self.waiting), len(requests), "texts"),
            (
                self.policy.max_waiting_tokens,
                self.waiting_tokens,
                sum(request.tokens for request in requests),
                "tokens",
            ),
        ):
            over = waiting + new - most
            if over > 0:
                done_s = float(end_N.max()) - now_s
                raise Overloaded(
                    f"the queue is full: {waiting} {what} wait, {new} more would be over its "
                    f"{most}; try again later.",
                    done_s * over / (waiting + new),
                )

    def least_ms(self, requests: Sequence[Request]) -> float:
        """What they take alone at the fastest alpha, by the times of warm-up."""
        total_ms = 0.0
        for request in requests:
            alphas = self.alphas if request.adaptive else (request.alpha,)
            found = self._shapes(request.bucket, alphas)
            total_ms += min(
                self.live.at_warmup_ms(shape) / min(shape.batch_size, len(requests))
                for shape in found
            )
        return total_ms

    # ---- those whose turn it is -----------------------------------------------------------

    def drop_cancelled(self) -> None:
        """Takes those out that nobody waits for any more."""
        self.waiting = [r for r in self.waiting if not r.reply.cancelled()]

    def drop_late(self, now_s: float) -> list[Request]:
        """Takes those out that cannot be in time any more, even if they ran at once."""
        least_ms = functools.cache(lambda *like: self._least_ms(*like, now_s))
        kept, dropped = [], []
        for request in self.waiting:
            late = math.isfinite(request.deadline_s) and request.deadline_s < now_s + 1e-3 * (
                least_ms(request.bucket, request.adaptive, request.alpha)
            )
            (dropped if late else kept).append(request)
        self.waiting = kept
        return dropped

    def _least_ms(self, bucket: int, adaptive: bool, alpha: float | None, now_s: float) -> float:
        """What the fastest program for such a request takes now."""
        shapes = self._shapes(bucket, self.alphas if adaptive else (alpha,))
        return min(self.live.typical_ms(shape, now_s) for shape in shapes)

    def take(self, now_s: float) -> Batch:
        """The next batch, of which nothing waits any more; there must be a request waiting."""
        ways = self._ways(self.waiting, now_s)
        backlog, fastest = Backlog(self.waiting, ways), len(self.alphas) - 1
        needed, found = fastest, self._in_time(ways, backlog, fastest, now_s)
        levels = range(fastest) if found else ()  # else no slower one is in time either
        for level in levels:
            if slower := self._in_time(ways, backlog, level, now_s):
                needed, found = level, slower
                break
        self._needed_s[needed] = now_s
        level = max(n for n, at in self._needed_s.items() if now_s - at <= self.policy.calm_s)
        if level > needed:
            found = self._in_time(ways, backlog, level, now_s)
        batch = found or self._as_good_as_can_be(ways, fastest, now_s)
        taken = {*batch.numbers}
        self.waiting = [r for n, r in enumerate(self.waiting) if n not in taken]
        self._running, self._busy_until_s = True, now_s + batch.ms / 1e3
        return batch

    def finished(self, batch: Batch, ran_ms: float, now_s: float) -> None:
        """The batch that was taken last has run."""
        if self.fills or len(batch.requests) == batch.shape.batch_size:
            self.live.observe(batch.shape, ran_ms, now_s)
        self.failed()

    def failed(self) -> None:
        """The batch that was taken last came to nothing."""
        self._running, self._busy_until_s = False, -math.inf

    def _ways(self, requests: Sequence[Request], now_s: float) -> Ways:
        """As of now; kept until something runs, as each request that comes asks for them."""
        least_s = min(request.deadline_s - request.arrived_s for request in requests)
        most_ms = round(1e3 * self.policy.batch_share * least_s, 3)
        key = self.live.version, most_ms, now_s // WAYS_S
        if self._ways_known is None or self._ways_known[0] != key:
            self._ways_known = key, Ways(self.live, self.alphas, self.sizes, most_ms, now_s)
        return self._ways_known[1]

    def _shapes(self, bucket: int, alphas: Sequence[float | None]) -> list[Shape]:
        """The programs that there are."""
        shapes = (Shape(bucket, size, alpha) for alpha in alphas for size in self.sizes)
        return [shape for shape in shapes if shape in self.live]

    def _in_time(self, ways: Ways, backlog: Backlog, level: int, now_s: float) -> Batch | None:
        """The cheapest batch after which everything is still in time at this level."""
        for way in self._ways_of_first(ways, level):
            batch = self._batch(way)
            end_s = now_s + way.ms / 1e3
            end_N = backlog.ends(end_s, level, batch.numbers)
            end_N[list(batch.numbers)] = end_s
            if (end_N <= backlog.aim_N).all():
                return batch
        return None

    def _as_good_as_can_be(self, ways: Ways, level: int, now_s: float) -> Batch:
        """Not all can be in time: the cheapest batch of which all are, or else the shortest."""
        batches = [self._batch(way) for way in self._ways_of_first(ways, level)]
        for batch in batches:
            if all(now_s + batch.ms / 1e3 <= request.deadline_s for request in batch.requests):
                return batch
        return min(batches, key=lambda batch: batch.ms)

    def _ways_of_first(self, ways: Ways, level: int) -> list[Way]:
        """For the most urgent and those of its bucket: the best comes first.

        Free rows count for what the texts that fill them would take by themselves.
        """
        first = self.waiting[0]
        count = sum(_alike(request, first) for request in self.waiting)
        alpha = ways.of(first, count, level).shape.alpha
        others = [self.waiting[number] for number in self._sharing(alpha)[1]][: self.sizes[-1]]
        counts = collections.Counter(request.bucket for request in others)
        own_ways = [ways.of(request, counts[request.bucket], level) for request in others]
        alone_ms = (way.ms_a_text if way else 0.0 for way in own_ways)
        spared_ms = list(itertools.accumulate(alone_ms, initial=0.0))
        return ways.at(first.bucket, count, alpha, spared_ms)

    def _batch(self, way: Way) -> Batch:
        """Those of the first's bucket; rows that stay free are filled with others."""
        own, others = self._sharing(way.shape.alpha)
        numbers = (own + others)[: way.shape.batch_size]
        requests = tuple(self.waiting[number] for number in numbers)
        return Batch(way.shape, requests, tuple(numbers), way.ms)

    def _sharing(self, alpha: float | None) -> tuple[list[int], list[int]]:
        """Who may be in a batch of the first's at this alpha: those of its bucket, and shorter."""
        first = self.waiting[0]
        own, others = [], []
        for number, request in enumerate(self.waiting):
            if _alike(request, first):
                own.append(number)
            elif request.bucket <= first.bucket and _may_share(request, first, alpha):
                others.append(number)
        return own, others


def _turn(request: Request) -> float:
    return request.turn_s


def _same_alpha(request: Request, first: Request) -> bool:
    """Whether both are adaptive, or both were given the same alpha."""
    return (request.adaptive, request.alpha) == (first.adaptive, first.alpha)


def _may_share(request: Request, first: Request, alpha: float | None) -> bool:
    """Whether a batch of the first's may take it along, at this alpha: the one that it was given,
    or dense, which serves everything that may choose."""
    given = alpha is None if request.adaptive else request.alpha == alpha
    return given or _same_alpha(request, first)


def _alike(request: Request, first: Request) -> bool:
    return request.bucket == first.bucket and _same_alpha(request, first)
