"""Metrics of rankings: by hand, and against scikit-learn's."""

import numpy as np
import pytest

from latadj_jax.evaluation.rankings import average_precision, ndcg, ranking_metrics, reciprocal_rank


def test_metrics_by_hand():
    relevances = np.array([0, 2, 0, 1])
    assert average_precision(relevances) == (1 / 2 + 2 / 4) / 2
    assert reciprocal_rank(relevances) == 1 / 2
    gain, ideal = 2 / np.log2(3) + 1 / np.log2(5), 2 / np.log2(2) + 1 / np.log2(3)
    assert ndcg(relevances) == pytest.approx(gain / ideal)
    assert ndcg(relevances, [2, 2, 1]) == pytest.approx(gain / (2 + 2 / np.log2(3) + 1 / 2))
    nothing = np.zeros(3)
    assert (average_precision(nothing), reciprocal_rank(nothing), ndcg(nothing)) == (0, 0, 0)
    assert average_precision(relevances, [2, 1, 1, 0]) == (1 / 2 + 2 / 4) / 3  # one is not there
    assert ndcg(np.array([-1, 2])) == ndcg(np.array([0, 2]))
    assert ndcg(np.array([0] * 10 + [1])) == 0  # the eleventh does not count
    assert reciprocal_rank(np.array([0] * 10 + [1])) == 1 / 11


def test_metrics_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, scores = rng.integers(0, 3, 30), rng.permutation(30).astype(float)
        ranked = labels[np.argsort(-scores)]
        assert average_precision(ranked) == pytest.approx(
            sklearn.average_precision_score(labels > 0, scores)
        )
        assert ndcg(ranked) == pytest.approx(sklearn.ndcg_score([labels], [scores], k=10))


def test_queries_without_a_relevant_candidate_do_not_count():
    """Candidates of a query may lie anywhere; of equal scores the first comes first."""
    queries = ["a", "b", "a", "c", "b"]
    labels, scores = np.array([0, 1, 1, 0, 0.0]), np.array([0.3, 0.5, 0.1, 0.9, 0.5])
    found = ranking_metrics(["mrr", "map"], queries, labels, scores)
    assert found == {"mrr": (1 / 2 + 1) / 2, "map": (1 / 2 + 1) / 2}
    with pytest.raises(ValueError, match="no query has a relevant candidate"):
        ranking_metrics(["map"], queries, np.zeros(5), scores)
