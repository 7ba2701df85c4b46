"""What a plan saves: expected speedup, multiply-accumulates, and the alpha for a speedup."""

import math
import numbers
from collections.abc import Sequence

import numpy as np

from latadj_jax.elimination.plan import Plan, check_profile, make_plan
from latadj_jax.elimination.profile import Profile


def expected_speedup(plan: Plan) -> float:
    """Dense over pruned work, with a quarter of a layer's arithmetic before its cut.

    L * N_0 / sum_l (N_{l-1} / 4 + 3 * N_l / 4)
    """
    into = (plan.length, *plan.counts[:-1])
    work = sum(n_in / 4 + 3 * n_out / 4 for n_in, n_out in zip(into, plan.counts, strict=True))
    return plan.num_layers * plan.length / work


def layer_macs(model, plan: Plan) -> tuple[int, ...]:
    """Multiply-accumulates of each layer for one example that fills the plan's length.

        d (q + 2 k) N_{l-1} + q N_{l-1}^2 + (q N_{l-1} + d q + m d F) N_l

    with hidden size d, widths q of the queries and k of the keys (d, but for grouped-query
    attention), and m feed-forward matrices of size F (2; 3 where gated): the projections to Q, K
    and V; Q K^T; and for the kept rows only P V, the output projection and the feed-forward.

    Merging R = N_{l-1} - N_l rows adds their P V, their likeness to the kept ones, and two means:

        R (q N_{l-1} + (2 q + d) N_l)

    So an encoder's layer computes; of a T5 only the encoder is counted. In a decoder's prompt the
    scores are found in blocks: with "score", Q K^T of the kept rows is computed a second time, and
    with other strategies only the kept rows become queries. Neither is counted.
    """
    c = model.config
    if plan.num_layers != c.num_layers:
        raise ValueError(f"the plan is for {plan.num_layers} layers, the model has {c.num_layers}.")
    strategy = plan.strategy or model.strategy
    d, q, k, f = c.hidden_size, c.query_size, c.kv_size, c.ff_matrices * c.intermediate_size

    def of_layer(n_in: int, n_out: int) -> int:
        before = d * (q + 2 * k) * n_in + q * n_in * n_in
        after = (q * n_in + d * q + d * f) * n_out
        merges = strategy == "merge" and n_out > plan.floor
        merging = (n_in - n_out) * (q * n_in + (2 * q + d) * n_out) if merges else 0
        return before + after + merging

    into = (plan.length, *plan.counts[:-1])
    return tuple(of_layer(*counts) for counts in zip(into, plan.counts, strict=True))


def macs(model, plan: Plan) -> int:
    """Multiply-accumulates of all layers, for one example that fills the plan's length.

    Embeddings and heads are left out: elimination does not change them.
    """
    return sum(layer_macs(model, plan))


def solve_alpha(
    profile: Profile, length: int | Sequence[int], speedup: float, *, protected: int = 1
) -> float:
    """The largest alpha whose expected speedup at `length` is at least `speedup`.

    Args:
      length: tokens of one text, or of each of many: the speedup is dense over pruned work of all
        of them, each pruned by its own length.

    Raises:
      ValueError: a speedup under 1, or beyond what keeping only the protected positions gives.
    """

    check_profile(profile)
    sizes, texts = np.unique(np.atleast_1d(length), return_counts=True)
    longest = sizes[-1]

    def at(alpha: float) -> float:
        plan = make_plan(profile, alpha, longest, protected=protected)
        after = plan.table[sizes]
        into = np.concatenate([sizes[:, None], after[:, :-1]], axis=1)
        work = (into / 4 + 3 * after / 4).sum(axis=1)
        return float(plan.num_layers * (texts * sizes).sum() / (texts * work).sum())

    real = isinstance(speedup, numbers.Real) and not isinstance(speedup, bool)
    if not real or not (math.isfinite(speedup) and speedup >= 1):
        raise ValueError(f"speedup must be a number of at least 1; it is {speedup!r}.")
    logs = [-math.log(ep) / w for ep, w in zip(profile.rates, profile.exponents, strict=True)]
    # Next to nothing is left at `low`, and everything at `high`; both are floats.
    low = max(1e-300, 1e-6 ** (1 / min(1.0, *profile.exponents)))
    high = math.exp(min(700.0, max(logs)))
    if at(low) < speedup:
        raise ValueError(
            f"speedup {speedup:g} is out of reach at length {longest}: keeping only the protected "
            f"positions gives {at(low):.3g}; ask for less or for a longer input."
        )
    if at(high) >= speedup:
        return high
    for _ in range(60):  # at(low) >= speedup > at(high) throughout
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (middle, high) if at(middle) >= speedup else (low, middle)
    return low
