"""What each program takes now, by what it takes while it serves.

The logarithm of a run's time is modelled as that of the median measured at warm-up, plus what the
machine adds to every program at present (a noisy neighbour), plus what is this program's own. Each
run moves all three a little, so programs that have not run lately are known as well.
"""

import math
from collections.abc import Mapping

from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.programs import Shape

MACHINE_GAIN = 0.15  # of an error that the machine's factor takes over at each run
OWN_GAIN = 0.02
SPREAD_GAIN = 0.05
MOST = 1.0  # an error counts as no more: a single pause of the process says little
LEAST_SPREAD = 0.03
BOUND = 2.0  # spreads above the middle: 95 % of runs, if errors are normal
STALE_S = 2.0  # after so long without a run, the next one counts for more than half
FORGOTTEN_S = 5.0  # without runs the machine is thought to become what it was at warm-up


class LiveLatencies:
    """Milliseconds of each program, followed run by run.

    Attributes:
      version: changes with every run and every program that is added.
    """

    def __init__(self, table: Mapping[Shape, Latency]):
        """Starts from the times of warm-up."""
        self._median: dict[Shape, float] = {}  # logarithms all
        self._own: dict[Shape, float] = {}
        self._spread: dict[Shape, float] = {}
        self._machine, self._at_s = 0.0, -math.inf
        self.version = 0
        for shape, latency in table.items():
            self.add(shape, latency)

    def add(self, shape: Shape, latency: Latency) -> None:
        """One more program, with its times at warm-up."""
        median_ms = max(1e-6, latency.median_ms)
        self._own[shape] = 0.0
        above = math.log(max(1.0, latency.p95_ms / median_ms)) / BOUND
        self._spread[shape] = max(LEAST_SPREAD, above)
        self._median[shape] = math.log(median_ms)  # last: from now on it is there
        self.version += 1

    def __contains__(self, shape: Shape) -> bool:
        return shape in self._median

    def machine(self, now_s: float) -> float:
        """How many times as long as at warm-up every program takes now."""
        return math.exp(self._machine_at(now_s))

    def at_warmup_ms(self, shape: Shape) -> float:
        """The median then."""
        return math.exp(self._median[shape])

    def typical_ms(self, shape: Shape, now_s: float) -> float:
        """What half of runs stay under."""
        return math.exp(self._median[shape] + self._own[shape] + self._machine_at(now_s))

    def bound_ms(self, shape: Shape, now_s: float) -> float:
        """What about 95 % of runs stay under."""
        return self.typical_ms(shape, now_s) * math.exp(BOUND * self._spread[shape])

    def observe(self, shape: Shape, ms: float, now_s: float) -> None:
        """A run that has just ended took `ms`."""
        gap_s = 0.0 if math.isinf(self._at_s) else now_s - self._at_s
        self._machine, self._at_s = self._machine_at(now_s), now_s
        error = math.log(max(ms, 1e-6) / self.typical_ms(shape, now_s))
        error = max(-MOST, min(MOST, error))
        gain = 1 - (1 - MACHINE_GAIN) * math.exp(-gap_s / STALE_S)
        self._machine += gain * error
        self._own[shape] += OWN_GAIN * error
        spread = self._spread[shape] + SPREAD_GAIN * (abs(error) - self._spread[shape])
        self._spread[shape] = max(LEAST_SPREAD, spread)
        self.version += 1

    def _machine_at(self, now_s: float) -> float:
        """Without runs nothing is known: else one pause could have everything refused for good."""
        return self._machine * math.exp(-max(0.0, now_s - self._at_s) / FORGOTTEN_S)
