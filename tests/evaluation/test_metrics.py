import numpy as np
import pytest

from latadj_jax.evaluation import metrics
from latadj_jax.tasks.registry import TASKS


def one(name, labels, predictions):
    return metrics.label_metrics([name], labels, predictions)[name]


def test_every_metric_that_settings_allow_is_there():
    """Others are made of likelihoods or of texts, not of labels and predictions."""
    tasks = ("classification", "regression", "multi-label")
    assert {name for task in tasks for name in TASKS[task].metrics} == set(metrics.METRICS)


# By hand. f1: precision 2/3, recall 2/3. matthews: TP 2, TN 1, FP 1, FN 1, so
# (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2) = 1/6.
@pytest.mark.parametrize(
    ("name", "value"), [("accuracy", 3 / 5), ("f1", 2 / 3), ("matthews", 1 / 6)]
)
def test_classification_by_hand(name, value):
    result = one(name, [1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert type(result) is float
    assert result == pytest.approx(value)


def test_f1_of_three_classes_is_the_mean_over_them():
    # class 0: 2/3 (precision 1/2, recall 1); class 1: 0; class 2: 1
    assert one("f1", [0, 1, 2], [0, 0, 2]) == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_correlations_by_hand():
    labels, predictions = np.float32([1, 2, 3, 4]), np.float32([1, 2, 3, 10])
    # deviations -1.5 -0.5 0.5 1.5 and -3 -2 -1 6: 14 / sqrt(5 * 50)
    assert one("pearson", labels, predictions) == pytest.approx(14 / 250**0.5)
    assert one("spearman", labels, predictions) == pytest.approx(1.0)
    assert one("spearman", labels, -predictions) == pytest.approx(-1.0)


def test_pearson_of_nearly_constant_float32_predictions():
    labels = np.float32([1, 2, 3, 4])
    assert one("pearson", labels, 1000 + labels * np.float32(2**-13)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize(
    ("labels", "predictions"), [([0, 1, 1], [1, 1, 1]), ([1, 1], [0, 1]), ([1], [1])]
)
def test_constant_input_correlates_zero_without_a_warning(name, labels, predictions):
    assert one(name, labels, predictions) == 0.0


def test_f1_without_any_positive_is_zero_without_a_warning():
    assert one("f1", [0, 0], [0, 0]) == 0.0


def test_order_is_kept_for_the_headline():
    result = metrics.label_metrics(("f1", "accuracy"), [0, 1], [0, 1])
    assert list(result.items()) == [("f1", 1.0), ("accuracy", 1.0)]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "at least one example"),
        ([1, 0], [1], r"\[2\] and \[1\]"),
        ([1, 0], [[0.1, 0.9], [0.8, 0.2]], r"\[2\] and \[2, 2\]"),
        ([1.0, 2.0], [1.0, float("nan")], "1 of 2 predictions are not finite"),
    ],
)
def test_bad_input_raises(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        metrics.label_metrics(["accuracy"], labels, predictions)


def test_an_unknown_metric_raises():
    with pytest.raises(ValueError, match="'bleu' is no metric; there are: accuracy"):
        metrics.label_metrics(["bleu"], [1], [1])
