"""Calibration against NumPy, example by example."""

import numpy as np
import pytest
import tiny

import latadj_jax
from latadj_jax.elimination.profile import Profile
from latadj_jax.model.buckets import pad


def acc_of(model, params, examples) -> np.ndarray:
    """Mean over examples of the median Score Vector, each example run alone and unpadded."""
    medians = []
    for example in examples:
        alone = pad([example], len(example["input_ids"]))
        out = latadj_jax.apply(model, params, alone, return_scores=True)
        medians.append([np.median(np.asarray(scores[0], np.float64)) for scores in out.scores])
    return np.mean(medians, axis=0)


def test_acc_is_the_mean_median_over_valid_tokens():
    """Fails if padding enters a median, or a batch weighs more than its examples."""
    model, params = tiny.make(num_hidden_layers=2)
    examples = [tiny.example(length, length) for length in (4, 9, 7, 12, 5)]
    profile = latadj_jax.calibrate(model, params, [pad(examples[:2], 16), pad(examples[2:], 12)])
    np.testing.assert_allclose(profile.acc, acc_of(model, params, examples), rtol=1e-5)
    assert profile == Profile.from_acc(profile.acc)
    assert latadj_jax.calibrate(model, params, [pad(examples, 16)], fit="linear").fit == "linear"


def test_fillers_of_weight_0_are_left_out():
    model, params = tiny.make(num_hidden_layers=2)
    examples = [tiny.example(length) for length in (4, 9, 7)]
    batch = {**pad(examples, 16), "weights": np.array([1, 1, 0], np.float32)}
    profile = latadj_jax.calibrate(model, params, [batch])
    np.testing.assert_allclose(profile.acc, acc_of(model, params, examples[:2]), rtol=1e-5)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.ones((2, 5), np.int32), "each batch must be a dict of arrays; one is a ndarray"),
        (
            {"input_ids": np.ones((2, 5), np.int32), "weights": np.ones(3)},
            r"weights must be \[2\]; it is \[3\]",
        ),
    ],
)
def test_what_is_no_batch_is_refused(batch, message):
    model, params = tiny.make()
    with pytest.raises(ValueError, match=message):
        latadj_jax.calibrate(model, params, [batch])


def test_no_batches_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        latadj_jax.calibrate(*tiny.make(), [])
