"""Curves f(l) fitted to the ACC of layers 1..L, by name; source: arXiv 2201.03327, section 3."""

from collections.abc import Callable

import numpy as np

DEFAULT_FIT = "quadratic"


def _polynomial(degree: int) -> Callable:
    def fit(layer: np.ndarray, acc: np.ndarray) -> np.ndarray:
        usable = min(degree, len(acc) - 1)
        return np.polynomial.Polynomial.fit(layer, acc, usable)(layer)

    return fit


def _exponential(layer: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """f(l) = exp(a + b l), least squares in ACC itself, started from the log-linear solution."""
    from scipy.optimize import least_squares  # slow to import

    if len(acc) == 1:
        return acc
    b, a = np.polyfit(layer, np.log(acc), 1)
    a, b = least_squares(lambda ab: np.exp(ab[0] + ab[1] * layer) - acc, (a, b)).x
    return np.exp(a + b * layer)


FITS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "linear": _polynomial(1),
    "quadratic": _polynomial(2),
    "exponential": _exponential,
    "none": lambda layer, acc: acc,
}
