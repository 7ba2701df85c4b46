"""The profile with which a model's answers change least, at equal measured time."""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.elimination.depth import every_other
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.speedup import Lengths
from latadj_jax.elimination.strategies import DISTINCT, MERGE, SCORE, UNDECIDED
from latadj_jax.evaluation.results import Results
from latadj_jax.model.model import Model

log = logging.getLogger(__name__)

STEP = 1.3  # between the expected speedups that a candidate is measured at
LEAST = 1e-6  # the alpha at which nothing is left that may go
BEYOND = 1.7  # expected over asked at which measuring ends: time saves less than arithmetic

RATES: dict[str, Callable[[Model], Profile]] = {
    "constant": lambda model: Profile.constant(model.config.num_layers),
    "falling": lambda model: Profile.falling(model.config.num_layers, model.reads_all),
}
ORDERS: dict[str, Callable[[int], tuple[int, ...]]] = {
    "every other": every_other,
    "last first": lambda size: tuple(range(size, 1, -1)),
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to spend less; what `Profile.path` and a model are made of."""

    strategy: str
    rates: str = "constant"
    depth: float = 0.0
    order: str = "every other"
    min_tokens: int = 1

    def of(self, model: Model) -> Model:
        """The model with it."""
        order = ORDERS[self.order](model.config.num_layers) if self.depth else ()
        profile = RATES[self.rates](model).path(self.depth, order)
        profile = dataclasses.replace(profile, min_tokens=self.min_tokens)
        return model.replace(profile=profile, strategy=self.strategy)


@dataclasses.dataclass(frozen=True)
class Tried:
    """A candidate and how near its answers are to the dense ones, at each speedup in time.

    NaN where it is never so fast.
    """

    candidate: Candidate
    agreement: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over all speedups; less than any other where one is out of reach."""
        mean = float(np.mean(self.agreement))
        return mean if np.isfinite(mean) else -np.inf


def search_profile(
    model: Model,
    evaluate: Callable[..., Results],
    params,
    lengths: Lengths,
    speedups: Sequence[float],
) -> list[Tried]:
    """All that was tried, the best first: one axis after another, from tokens alone.

    Args:
      evaluate: of (model, params, alphas, served=): its agreement with the dense answers and its
        measured speedups.
      lengths: of the texts, in tokens.
      speedups: over dense, in time.

    Raises:
      ValueError: nothing is so fast.
    """
    size = model.config.num_layers
    strategies = [one.name for one in (MERGE, DISTINCT, UNDECIDED, SCORE) if model.takes(one)]
    depths = (0.25, 0.5, 0.75, 1.0) if size > 1 else ()
    least = (2, 4, 6, 8) if model.reads_all else ()  # of what nobody reads none need stay
    axes = (
        [{"rates": rates} for rates in RATES],
        [{"strategy": strategy} for strategy in strategies],
        [{"depth": depth, "order": order} for depth in depths for order in ORDERS],
        [{"min_tokens": n} for n in least],
    )
    tried: dict[Candidate, Tried] = {}
    best = Candidate(strategies[0])
    for axis in axes:
        for changes in axis:
            candidate = dataclasses.replace(best, **changes)
            if candidate not in tried:
                agreement = _agreement(candidate.of(model), evaluate, params, lengths, speedups)
                tried[candidate] = Tried(candidate, agreement)
                log.info("%s: %s", candidate, agreement)
        best = max(tried.values(), key=lambda one: one.mean).candidate
    if not np.isfinite(max(one.mean for one in tried.values())):
        raise ValueError(
            f"nothing reaches a speedup of {max(speedups):g} in time with these texts; ask for "
            f"less, or bring longer texts."
        )
    return sorted(tried.values(), key=lambda one: -one.mean)


def _agreement(model, evaluate, params, lengths, speedups) -> tuple[float, ...]:
    """At each speedup in time, between those that were measured."""
    alphas, speedup = [], STEP
    while speedup < STEP * BEYOND * max(speedups):
        try:
            alphas.append(model.solve_alpha(lengths, speedup, reads_all=model.reads_all))
        except ValueError:  # out of reach
            alphas.append(LEAST)
            break
        speedup *= STEP
    rows = evaluate(model, params, alphas, served=True).rows
    found = [
        (row.measured_speedup, part[model.record.agreement])
        for row in rows
        for part in row.metrics.values()
    ]
    return interpolated(*zip(*found, strict=True), speedups)


def interpolated(
    measured: Sequence[float], agreement: Sequence[float], speedups: Sequence[float]
) -> tuple[float, ...]:
    """Agreement at each speedup, linear in its logarithm between two that were measured.

    Of what was measured at one speed the best counts; NaN beyond the fastest.
    """
    order = np.argsort(measured)
    x, y = np.log(np.asarray(measured)[order]), np.asarray(agreement)[order]
    y = np.maximum.accumulate(y[::-1])[::-1]  # a faster one that is better serves here as well
    return tuple(np.interp(np.log(speedups), x, y, right=np.nan).tolist())
