"""Alpha, the speedup coefficient: what it may be, and how it is written. None is dense."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from latadj_jax.checks import is_number


def alpha_name(alpha: float | None) -> str:
    """As tables and commands write it: "dense" or "0.9"."""
    return "dense" if alpha is None else f"{alpha:g}"


def alpha_label(alpha: float | None) -> str:
    """As running text writes it: "dense" or "alpha 0.9"."""
    return "dense" if alpha is None else f"alpha {alpha:g}"


def check_alpha(alpha: float | None) -> None:
    """Raises ValueError unless alpha is None or a finite number greater than 0."""
    if alpha is None:
        return
    if not is_number(alpha):
        raise ValueError(
            f"alpha must be a Python number, known before tracing, or None; it is {alpha!r}."
        )
    try:
        value = float(alpha)
    except OverflowError:  # an integer of hundreds of digits
        value = math.inf
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"alpha must be finite and greater than 0 (None is dense); it is {value}.")


def parse_alpha(text: str) -> float | None:
    """An alpha as commands take it: a number, or "dense"."""
    if text == "dense":
        return None
    try:
        alpha = float(text)
    except ValueError:
        raise ValueError(f"alpha takes a number, or dense; {text!r} is neither.") from None
    check_alpha(alpha)
    return alpha


def alphas_of(alphas: Sequence[float | None]) -> tuple[float | None, ...]:
    """`alphas` as Python numbers; ValueError unless it is a sequence of what an alpha can be."""
    if isinstance(alphas, str) or not np.iterable(alphas):
        raise ValueError(f"alphas must be a list of numbers (None is dense); it is {alphas!r}.")
    for alpha in alphas:
        check_alpha(alpha)
    return tuple(None if alpha is None else float(alpha) for alpha in alphas)


def slowest_first(alphas: Iterable[float | None]) -> tuple[float | None, ...]:
    """Each alpha once: dense (None) before any other, then the largest."""
    return tuple(sorted(set(alphas), key=lambda a: -math.inf if a is None else -float(a)))
