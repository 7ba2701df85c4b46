"""Skipping layers: in which order, and at which alpha each stops running."""

import math
from collections.abc import Sequence

import numpy as np


def every_other(num_layers: int) -> tuple[int, ...]:
    """In which order layers are skipped best: every second one, then those between, the last last.

    Of six layers 2, 4, 3, 5 and 6. What a head reads comes out of the last layer, without which
    answers change far more than without any other (docs/depth.md).

    Source: Fan, Grave and Joulin, arXiv 1909.11556 (LayerDrop's "every other").
    """
    inner = range(2, num_layers)
    return (*inner[::2], *inner[1::2], num_layers)[: num_layers - 1]


def check_order(order: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The order as it is, or `every_other` for none.

    Raises:
      ValueError: one that names the first layer, another than there is, or one twice.
    """
    if not np.iterable(order) or not {*order} <= {*range(2, num_layers + 1)}:
        raise ValueError(f"order must be layers in 2..{num_layers}; it is {order!r}.")
    order = tuple(map(int, order)) or every_other(num_layers)
    if len({*order}) < len(order):
        raise ValueError(f"order names a layer twice: {order!r}.")
    return order


def skip_alphas(
    rates: Sequence[float],
    exponents: Sequence[float],
    acts: Sequence[bool],
    depth: float,
    order: Sequence[int],
) -> tuple[float, ...]:
    """Per layer, the largest alpha at which it does not run; 0 is none.

    The n-th of `order` is skipped where S(alpha)^depth > L / (L_n + 1/2), with L_n layers left.

    Args:
      rates, exponents: of a profile.
      acts: whether a layer's rate follows alpha; one that does not counts for nothing.
    """
    size = len(rates)
    found = [0.0] * size
    for n, layer in enumerate(order, 1):
        alpha = _alpha_of(math.log(size / (size - n + 0.5)) / depth, rates, exponents, acts)
        found[layer - 1] = math.floor(alpha * 1e4) / 1e4
    return tuple(found)


def _alpha_of(log_speedup: float, rates, exponents, acts) -> float:
    """The alpha of a speedup, of a text so long that no count is rounded; 0 if none has it.

    Over what it is at the largest alpha, and without layers that always leave next to nothing.
    """

    def log_speed(log_alpha: float) -> float:
        n_in, work = 1.0, 0.0
        for ep, w, removes in zip(rates, exponents, acts, strict=True):
            n_out = n_in * (min(1.0, math.exp(w * log_alpha) * ep) if removes else 1.0)
            work += n_in / 4 + 3 * n_out / 4
            n_in = n_out
        return -math.log(work)

    low, high = -50.0, 50.0
    wanted = log_speed(high) + log_speedup
    if log_speed(low) < wanted:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if log_speed(middle) >= wanted else (low, middle)
    return math.exp(low)
