"""How well candidates are ranked for each query: MAP, MRR and nDCG, as trec_eval counts them."""

from collections.abc import Callable, Sequence

import numpy as np

DEPTH = 10  # of nDCG


def average_precision(relevances: np.ndarray, judged: Sequence[float] | None = None) -> float:
    """Mean over the relevant ones of the share of relevant ones up to each; in [0, 1].

    Args:
      relevances: of the candidates, best ranked first; above 0 is relevant.
      judged: relevances of all that were judged, where some are not among the candidates: a
        relevant one that is missing counts 0.
    """
    is_relevant = np.asarray(relevances) > 0
    number = int((np.asarray(relevances if judged is None else judged) > 0).sum())
    precisions = np.cumsum(is_relevant) / np.arange(1, len(is_relevant) + 1)
    return float(precisions[is_relevant].sum() / number) if number else 0.0


def reciprocal_rank(relevances: np.ndarray, judged: Sequence[float] | None = None) -> float:
    """One over the rank of the first relevant one; 0 where there is none."""
    first = np.flatnonzero(np.asarray(relevances) > 0)
    return 1.0 / (1 + int(first[0])) if len(first) else 0.0


def ndcg(relevances: np.ndarray, judged: Sequence[float] | None = None) -> float:
    """Discounted gain of the first ten over that of the best ranking; in [0, 1].

        DCG = sum over the first ten of relevance / log2(rank + 1)

    Args:
      judged: as of `average_precision`. Less than 0 counts as 0.

    Source: Järvelin and Kekäläinen, ACM TOIS 2002; linear gain, as trec_eval has it.
    """
    best = np.sort(np.asarray(relevances if judged is None else judged, np.float64))[::-1]
    ideal = _gain(best)
    return _gain(np.asarray(relevances, np.float64)) / ideal if ideal > 0 else 0.0


def _gain(relevances: np.ndarray) -> float:
    top = np.maximum(relevances[:DEPTH], 0.0)
    return float((top / np.log2(np.arange(2, len(top) + 2))).sum())


METRICS: dict[str, Callable[..., float]] = {
    "map": average_precision,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
}


def ranking_metrics(
    names: Sequence[str], queries: Sequence[str], labels_N: np.ndarray, scores_N: np.ndarray
) -> dict[str, float]:
    """The named metrics, means over the queries that have a relevant candidate.

    Args:
      queries: of each candidate, what it is ranked for.
      labels_N: relevances; above 0 is relevant.
      scores_N: higher is better; of equals the one that came first.

    Raises:
      ValueError: no query has a relevant candidate.
    """
    members: dict[str, list[int]] = {}
    for n, query in enumerate(queries):
        members.setdefault(query, []).append(n)
    ranked = [
        labels_N[rows][np.argsort(-scores_N[rows], kind="stable")]
        for rows in map(np.array, members.values())
    ]
    ranked = [relevances for relevances in ranked if (relevances > 0).any()]
    if not ranked:
        raise ValueError("no query has a relevant candidate: there is nothing to rank.")
    return {name: float(np.mean([METRICS[name](r) for r in ranked])) for name in names}
