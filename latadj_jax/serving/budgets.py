"""Which alpha serves a request: by an expected speedup, or within measured milliseconds.

Alphas come slowest first, as an engine sorts them; dense (None) before any other.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from latadj_jax.checks import is_number
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.model.model import Model
from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.programs import Shape

OWN = "own"  # the alpha that the model carries
INFEASIBLE = ("raise", "fastest")


@dataclasses.dataclass(frozen=True)
class Asked:
    """How fast a call is to be, as `Engine.__call__` has it: by one of the first three at most."""

    alpha: float | str | None = OWN
    speedup: float | None = None
    latency_ms: float | None = None
    infeasible: str = "raise"

    def __post_init__(self):
        asked = (self.alpha != OWN) + (self.speedup is not None) + (self.latency_ms is not None)
        if asked > 1:
            raise ValueError("alpha, speedup and latency_ms exclude each other; give one.")
        check_asked("speedup", self.speedup)
        check_asked("latency_ms", self.latency_ms)
        if self.infeasible not in INFEASIBLE:
            raise ValueError(f"infeasible must be one of {', '.join(INFEASIBLE)}.")

    def chooser(
        self,
        model: Model,
        alphas: Sequence[float | None],
        latencies: Mapping[Shape, Latency],
        batches: Iterable[tuple[Any, int, int]],
        spent_ms: float,
    ) -> Callable[[int], float | None]:
        """A function from a padded length to the alpha that serves it.

        Args:
          batches: as `batches.batches` has them.
          spent_ms: gone already.

        Raises:
          ValueError: an alpha that there is not, or milliseconds that are not enough.
        """
        if self.speedup is not None:
            return lambda length: alpha_of_speedup(
                model, alphas, length, self.speedup, self.infeasible
            )
        if self.latency_ms is not None:
            sizes = [(length, size) for _, length, size in batches]
            chosen = alpha_within(
                latencies, alphas, sizes, self.latency_ms, spent_ms, self.infeasible
            )
            return lambda length: chosen
        alpha = model.alpha if self.alpha == OWN else self.alpha
        if alpha not in alphas:
            raise ValueError(
                f"alpha {alpha} was not compiled; the engine has {alphas}: name it in alphas=."
            )
        return lambda length: alpha


def check_asked(name: str, value: float | None) -> None:
    """Raises ValueError unless it is None or a number greater than 0."""
    if value is not None and not (is_number(value) and value > 0):
        raise ValueError(f"{name} must be a number greater than 0; it is {value!r}.")


def alpha_of_speedup(
    model: Model, alphas: Sequence[float | None], length: int, speedup: float, infeasible: str
) -> float | None:
    """The slowest alpha that is expected to be `speedup` times as fast as dense at this length.

    Raises:
      ValueError: there is none, and `infeasible` is "raise".
    """
    for alpha in alphas:
        if expected_speedup(model.plan(alpha, length)) >= speedup:
            return alpha
    if infeasible == "fastest":
        return alphas[-1]
    most = expected_speedup(model.plan(alphas[-1], length))
    raise ValueError(
        f"speedup {speedup:g} is out of reach at {length} tokens: {_named(alphas[-1])}, the "
        f"engine's fastest, gives {most:.2f}; ask for less, or give it a smaller alpha."
    )


def alpha_within(
    latencies: Mapping[Shape, Latency],
    alphas: Sequence[float | None],
    batches: Sequence[tuple[int, int]],
    latency_ms: float,
    spent_ms: float,
    infeasible: str,
) -> float | None:
    """The slowest alpha with which what 95 % of runs stay under is, in all, within `latency_ms`.

    Args:
      batches: (padded length, batch size) of each.
      spent_ms: gone already.

    Raises:
      ValueError: there is none, and `infeasible` is "raise".
    """
    for alpha in alphas:
        total = spent_ms + sum(latencies[Shape(*batch, alpha)].p95_ms for batch in batches)
        if total <= latency_ms:
            return alpha
    if infeasible == "fastest":
        return alphas[-1]
    raise ValueError(
        f"{latency_ms:g} ms are not enough: the text(s) take {total:.1f} ms at "
        f"{_named(alphas[-1])}, the engine's fastest; allow more, or infeasible='fastest'."
    )


def _named(alpha: float | None) -> str:
    return "alpha None (dense)" if alpha is None else f"alpha {alpha:.3g}"
