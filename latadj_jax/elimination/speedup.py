"""What a plan saves: expected speedup, multiply-accumulates, and the alpha for a speedup."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from latadj_jax.checks import is_number
from latadj_jax.elimination.plan import Plan, check_profile, make_plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.strategies import find

Lengths = int | Sequence[int] | np.ndarray | Mapping[int, int]


def expected_speedup(plan: Plan, lengths: Lengths | None = None) -> float:
    """Computes dense over pruned work, with a quarter of a layer's arithmetic before its cut.

        L * N_0 / sum_l (N_{l-1} / 4 + 3 * N_l / 4)        the sum: of the layers l that run

    Args:
      lengths: tokens of a text, or of many, or how many texts there are of each length: the sums
        are then over all texts, whose counts follow their own lengths, padding left out. By default
        one text that fills the plan.

    Raises:
      ValueError: a length is not an integer of at least 1, or a text is longer than the plan.
    """
    n_0, times = _histogram(plan.length if lengths is None else lengths)
    if n_0[-1] > plan.length:
        raise ValueError(f"the plan is for {plan.length} tokens; a text has {n_0[-1]}.")
    into, after = plan.entering[n_0], plan.table[n_0]
    work = (into / 4 + 3 * after / 4).sum(axis=1, where=plan.runs)
    return float(plan.num_layers * (times * n_0).sum() / (times * work).sum())


def _histogram(lengths: Lengths) -> tuple[np.ndarray, np.ndarray]:
    """Lengths, ascending, and how many texts there are of each: int64 [n] both."""
    if isinstance(lengths, Mapping):
        pairs = np.array(sorted(lengths.items())).reshape(-1, 2)
        n, times = pairs[:, 0], pairs[:, 1]
    else:
        n, times = np.unique(np.asarray(lengths), return_counts=True)
    if not (n.size and np.issubdtype(n.dtype, np.integer) and n[0] >= 1 and (times > 0).all()):
        raise ValueError(
            f"length must be an integer of at least 1, or those of many texts; it is {lengths!r}."
        )
    return n.astype(np.int64), times.astype(np.int64)


def layer_macs(model, plan: Plan) -> tuple[int, ...]:
    """Counts the multiply-accumulates of each layer, for one example that fills the plan's length.

        d (q + 2 k) N_{l-1} + q N_{l-1}^2 + (q N_{l-1} + d q + m d F) N_l

    with hidden size d, widths q of the queries and k of the keys (d, but for grouped-query
    attention), and m feed-forward matrices of size F (2; 3 where gated): the projections to Q, K
    and V; Q K^T; and for the kept rows only P V, the output projection and the feed-forward.

    Merging R = N_{l-1} - N_l rows adds their P V, their likeness to the kept ones, and two means:

        R (q N_{l-1} + (2 q + d) N_l)

    A strategy that compares every key with every other adds q N_{l-1}^2. One that asks the head,
    which gives C numbers for each token, adds d C N_{l-1}, or d (d + C) N_{l-1} where the head has
    a product of its own before them. In a layer that is local its queries are counted with the keys
    in their window, in place of N_{l-1}. Terms of distances add what a config's `position_macs`
    says. So an encoder's layer computes; of a T5 only the encoder is counted. In a decoder's prompt
    the scores are found in blocks: with "score", Q K^T of the kept rows is computed a second time,
    and with other strategies only the kept rows become queries; in ModernBERT, P V is of all rows.
    None of this is counted. A layer that is skipped has none.
    """
    c = model.config
    if plan.num_layers != c.num_layers:
        raise ValueError(f"the plan is for {plan.num_layers} layers, the model has {c.num_layers}.")
    strategy = find(plan.strategy or model.strategy)
    model.check_strategy(strategy.name)
    d, q, k, f = c.hidden_size, c.query_size, c.kv_size, c.ff_matrices * c.intermediate_size

    def of_layer(layer: int, n_in: int, n_out: int) -> int:
        seen = c.keys_seen(layer, n_in)
        ranking = q * n_in * n_in if strategy.compares and n_out < n_in else 0
        if strategy.reads_head and n_out < n_in:
            ranking += d * (d * c.head_matrices + model.row_width) * n_in
        before = d * (q + 2 * k) * n_in + q * n_in * seen + ranking
        before += c.position_macs(plan.length, n_in)
        after = (q * seen + d * q + d * f) * n_out
        merges = strategy.merges and (n_out > plan.floor or not c.protects)
        merging = (n_in - n_out) * (q * seen + (2 * q + d) * n_out) if merges else 0
        return before + after + merging

    return tuple(
        of_layer(layer, *counts) if runs else 0
        for layer, (runs, *counts) in enumerate(zip(plan.runs, plan.into, plan.counts, strict=True))
    )


def macs(model, plan: Plan) -> int:
    """Counts the multiply-accumulates of all layers, for one example that fills the plan's length.

    Embeddings and heads are left out: elimination does not change them.
    """
    return sum(layer_macs(model, plan))


def solve_alpha(
    profile: Profile, length: Lengths, speedup: float, *, protected: int = 1, reads_all: bool = True
) -> float:
    """Finds the largest alpha whose expected speedup is at least `speedup`.

    Args:
      length: tokens of a text, or of many texts (the lengths of a data set, or a mapping from each
        length to how many texts have it): "twice as fast, all texts together".
      speedup: dense work over pruned work, see `expected_speedup`; at least 1.
      protected: positions that are never removed.
      reads_all: whether a head reads every word-vector; False where it reads the protected ones
        alone, so that the last layer leaves nothing else at any alpha (see `Plan.for_head`).

    Raises:
      ValueError: a speedup under 1, or beyond what the smallest alpha gives: protected positions
        alone, in the layers that are never skipped.
    """
    check_profile(profile)
    if not is_number(speedup) or not (math.isfinite(speedup) and speedup >= 1):
        raise ValueError(f"speedup must be a number of at least 1; it is {speedup!r}.")
    n, times = _histogram(length)
    texts = dict(zip(n.tolist(), times.tolist(), strict=True))

    def at(alpha: float) -> float:
        plan = make_plan(profile, alpha, int(n[-1]), protected=protected)
        return expected_speedup(plan if reads_all else plan.for_head(), texts)

    acts = [(ep, w) for ep, w in zip(profile.rates, profile.exponents, strict=True) if w]
    logs = [-math.log(ep) / w for ep, w in acts]
    # Next to nothing is left at `low`, and everything runs and stays at `high`; both are floats.
    low = max(1e-300, 1e-6 ** (1 / min([1.0, *(w for _, w in acts)])))
    high = max(math.exp(min(700.0, max(logs, default=0.0))), 1.01 * max(profile.skip_at))
    if at(low) < speedup:
        of = f"length {n[0]}" if len(n) == 1 else f"lengths {n[0]} to {n[-1]}"
        raise ValueError(
            f"speedup {speedup:g} is out of reach at {of}: the smallest alpha gives "
            f"{at(low):.3g}; ask for less or for a longer input."
        )
    return largest_alpha(lambda alpha: at(alpha) >= speedup, low, high)


def largest_alpha(fast: Callable[[float], bool], low: float = 1e-3, high: float = 1e3) -> float:
    """The largest alpha in [low, high] that is fast, as all smaller ones are; `low` if none is."""
    if fast(high):
        return high
    for _ in range(60):  # `high` is never fast
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (middle, high) if fast(middle) else (low, middle)
    return low
