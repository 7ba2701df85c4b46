"""Metrics of predictions against labels, as shares or correlations (0.91, never 91 percent)."""

from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.extras import require


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of predictions that are right, in [0, 1]."""
    return float(_sklearn().accuracy_score(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray, num_labels: int | None = None) -> float:
    """F1 in [0, 1]: of class 1 where there are two classes (GLUE), else the mean over the classes.

    Without `num_labels`, there are two where only 0 and 1 occur.
    """
    if num_labels is None:
        num_labels = 1 + max(1, int(np.max(labels)), int(np.max(predictions)))
    average = "binary" if num_labels == 2 else "macro"
    return float(_sklearn().f1_score(labels, predictions, average=average, zero_division=0))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation in [-1, 1]; 0 where the labels or the predictions are constant."""
    if _constant(labels) or _constant(predictions):
        return 0.0
    return float(_sklearn().matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Linear correlation in [-1, 1]; 0 where the labels or the predictions are constant."""
    if _constant(labels) or _constant(predictions):
        return 0.0
    from scipy.stats import pearsonr  # slow to import

    # float64: in float32 scipy gives up on predictions that are nearly constant.
    x, y = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    return float(pearsonr(x, y).statistic)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Rank correlation in [-1, 1]; 0 where the labels or the predictions are constant."""
    if _constant(labels) or _constant(predictions):
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(labels, predictions).statistic)


def f1_micro(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 in [0, 1] over all decisions together, of several labels [N, C]."""
    return float(_sklearn().f1_score(labels, predictions, average="micro", zero_division=0))


def f1_macro(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over the labels of the F1 of each, in [0, 1], of several labels [N, C]."""
    return float(_sklearn().f1_score(labels, predictions, average="macro", zero_division=0))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "exact_match": accuracy,  # of several labels: all of a text's are right
}


def label_metrics(
    names: Sequence[str],
    labels: np.ndarray,
    predictions: np.ndarray,
    num_labels: int | None = None,
) -> dict[str, float]:
    """The named metrics, in the order asked for; the first is the headline.

    Args:
      labels, predictions: one number per example, [N]: class ids, or values for a regression; of
        several labels [N, C], 1 for those that hold.
      num_labels: the number of classes, for `f1`.

    Raises:
      ValueError: an unknown metric, no examples, shapes that differ, or a value that is not finite.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"{unknown[0]!r} is no metric; there are: {', '.join(METRICS)}.")
    if labels.ndim not in (1, 2) or labels.shape != predictions.shape:
        raise ValueError(
            "labels and predictions must both have shape [N], or [N, C]; "
            f"they have {list(labels.shape)} and {list(predictions.shape)}."
        )
    if not len(labels):
        raise ValueError("metrics need at least one example; there is none.")
    for what, values in (("labels", labels), ("predictions", predictions)):
        if bad := int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum()):
            raise ValueError(f"{bad} of {len(values)} {what} are not finite numbers.")
    extra = {"f1": {"num_labels": num_labels}}
    return {name: METRICS[name](labels, predictions, **extra.get(name, {})) for name in names}


def _sklearn():
    require("train", "sklearn")
    import sklearn.metrics  # of an extra, and slow to import

    return sklearn.metrics


def _constant(values: np.ndarray) -> bool:
    return bool(np.min(values) == np.max(values))
