import logging as std_logging

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from latadj_jax.data.windows import pairs_batches, sliding_windows, training_windows

# ---- training -----------------------------------------------------------------------------------


def test_training_windows_by_hand():
    windows = training_windows(np.arange(7), length=3, stride=2)
    assert windows.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert windows.dtype == np.int32
    assert training_windows(np.arange(7), 3, 3).tolist() == [[0, 1, 2], [3, 4, 5]]  # 6 is dropped
    assert training_windows(np.arange(3), 3, 9).tolist() == [[0, 1, 2]]


@given(st.integers(2, 60), st.integers(2, 20), st.integers(1, 25))
def test_training_windows_are_all_the_whole_ones(n, length, stride):
    """Fails where the last whole window is lost, or a window reaches over the end."""
    if n < length:
        return
    expected = [list(range(s, s + length)) for s in range(0, n, stride) if s + length <= n]
    assert training_windows(np.arange(n), length, stride).tolist() == expected


# ---- evaluation ---------------------------------------------------------------------------------


def test_sliding_windows_by_hand():
    w = sliding_windows(np.arange(10, 17), context=2, continuation=3)
    assert w.prompt.tolist() == [[10, 11], [13, 14]]
    assert w.continuation.tolist() == [[12, 13, 14], [15, 16, 0]]
    assert w.weights.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (w.prompt.dtype, w.continuation.dtype, w.weights.dtype) == (np.int32,) * 2 + (
        np.float32,
    )
    assert w.num_scored == 5


@given(st.integers(2, 80), st.integers(1, 30), st.integers(1, 12))
def test_each_token_after_the_first_context_is_scored_once_after_the_tokens_before_it(n, c, s):
    """Fails where a token is scored twice or never, or a prompt reaches into what is scored."""
    if n <= c:
        return
    w = sliding_windows(np.arange(n), c, s)  # a token's id is its place
    scored = w.continuation[w.weights == 1]
    assert scored.tolist() == list(range(c, n))
    assert w.num_scored == n - c
    assert set(np.unique(w.weights)) <= {0, 1}
    # Prompt and continuation are one stretch of the text.
    np.testing.assert_array_equal(w.prompt, w.continuation[:, :1] + np.arange(-c, 0))
    assert w.weights[:, 0].all()  # no window without a token to score
    assert w.continuation.shape == w.weights.shape == (len(w.prompt), s)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training_windows(np.arange(4), 5, 1), "stream has 4 tokens, a window 5"),
        (lambda: training_windows(np.arange(4), 2, 0), "stride must be at least 1 token; it is 0"),
        (lambda: training_windows(np.arange(4), 1, 1), "length must be at least 2 .* it is 1"),
        (lambda: training_windows(np.ones((2, 2), int), 2, 1), r"int64 \[2, 2\]"),
        (lambda: training_windows(np.ones(4), 2, 1), r"float64 \[4\]"),
        (lambda: sliding_windows(np.arange(4), 4, 1), "4 tokens, none after a context of 4"),
        (lambda: sliding_windows(np.arange(4), 0, 1), "context must be at least 1 token"),
        (lambda: sliding_windows(np.arange(4), 1, 0), "continuation must be at least 1 token"),
    ],
)
def test_windows_that_cannot_be_made_say_why(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- pairs --------------------------------------------------------------------------------------


def pair(context: int, continuation: int, first: int = 1):
    ids = np.arange(first, first + context + continuation, dtype=np.int32)
    return ids[:context], ids[context:]


def test_pairs_batches_by_hand():
    pairs = [pair(3, 1, 10), pair(2, 2, 20), pair(6, 1, 30)]
    short, long = pairs_batches(pairs, (4, 8), (1, 3), 2)
    assert short.indices.tolist() == [0, 1]
    assert short.prompt["input_ids"].tolist() == [[10, 11, 12, 0], [20, 21, 0, 0]]
    assert short.prompt["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert short.continuation.tolist() == [[13, 0, 0], [22, 23, 0]]
    assert short.weights.tolist() == [[1, 0, 0], [1, 1, 0]]
    # The last one is short: filled up with its first pair, which does not count twice.
    assert long.indices.tolist() == [2]
    assert long.prompt["input_ids"].tolist() == [[30, 31, 32, 33, 34, 35, 0, 0]] * 2
    assert long.prompt["attention_mask"].any(axis=1).all()
    assert long.continuation.tolist() == [[36], [36]]
    assert long.weights.tolist() == [[1], [0]]
    assert (long.continuation.dtype, long.weights.dtype) == (np.int32, np.float32)


LENGTHS = st.tuples(st.integers(1, 12), st.integers(1, 6))


@given(st.lists(LENGTHS, min_size=1, max_size=30), st.integers(1, 5))
def test_every_pair_is_in_one_batch_as_it_is(lengths, batch_size):
    """Fails where a pair is lost, doubled, mixed up with another, or cut though it fits."""
    pairs = [pair(n, m, 100 * i + 1) for i, (n, m) in enumerate(lengths)]
    batches = pairs_batches(pairs, (4, 8, 12), (2, 6), batch_size)
    assert sorted(i for b in batches for i in b.indices.tolist()) == list(range(len(pairs)))
    for b in batches:
        assert b.weights.shape == b.continuation.shape
        assert b.prompt["input_ids"].shape[0] == b.weights.shape[0] == batch_size
        assert not b.cut.any()
        assert not b.weights[len(b.indices) :].any()
        for row, i in enumerate(b.indices):
            context, continuation = pairs[i]
            mask, weights = b.prompt["attention_mask"][row], b.weights[row] == 1
            assert b.prompt["input_ids"][row][mask].tolist() == context.tolist()
            assert b.continuation[row][weights].tolist() == continuation.tolist()
            assert mask[: len(context)].all()  # padded on the right
            assert weights[: len(continuation)].all()
    shapes = {(b.prompt["input_ids"].shape[1], b.weights.shape[1]) for b in batches}
    assert shapes <= {(p, s) for p in (4, 8, 12) for s in (2, 6)}


def test_pairs_of_like_continuations_share_a_batch():
    """Fails where one long continuation pads every batch that could do with the short bucket."""
    batches = pairs_batches([pair(3, m) for m in (1, 6, 1, 6)], (4,), (1, 6), 2)
    assert [b.indices.tolist() for b in batches] == [[0, 2], [1, 3]]
    assert [b.weights.shape for b in batches] == [(2, 1), (2, 6)]


def test_a_context_that_is_too_long_loses_its_oldest_tokens(caplog):
    with caplog.at_level(std_logging.WARNING):
        (batch,) = pairs_batches([pair(4, 1), pair(7, 1), pair(5, 1)], (4,), (1,), 3)
    assert batch.prompt["input_ids"].tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [2, 3, 4, 5]]
    assert batch.prompt["attention_mask"].all()
    assert batch.continuation.tolist() == [[5], [8], [6]]
    assert batch.cut.tolist() == [0, 3, 1]
    assert "2 of 3 contexts were longer than 4 tokens" in caplog.text


def test_cut_is_that_of_each_pair_and_nothing_is_said_without_one(caplog):
    pairs = [pair(9, 2), pair(4, 1), pair(6, 1)]  # taken in the order 1, 2, 0
    batches = pairs_batches(pairs, (4,), (1, 2), 1)
    assert [(b.indices.tolist(), b.cut.tolist()) for b in batches] == [
        ([1], [0]),
        ([2], [2]),
        ([0], [5]),
    ]
    caplog.clear()
    pairs_batches(pairs, (9,), (2,), 1)
    assert not caplog.text


def test_without_buckets_they_are_those_of_the_longest():
    shapes = [
        (b.prompt["input_ids"].shape, b.weights.shape)
        for b in pairs_batches([pair(20, 2), pair(3, 1)], (), (), 1)
    ]
    assert shapes == [((1, 16), (1, 2)), ((1, 20), (1, 2))]


@pytest.mark.parametrize(
    ("pairs", "batch_size", "message"),
    [
        ([], 1, "no .* pairs"),
        ([pair(1, 1)], 0, "batch_size must be at least 1; it is 0"),
        ([pair(1, 1), pair(0, 1)], 1, r"pair 1 \(from 0\) has an empty context"),
        ([pair(1, 1), pair(1, 0)], 1, r"pair 1 \(from 0\) has an empty continuation"),
        (
            [pair(1, 1), pair(1, 4)],
            1,
            r"pair 1 .* continuation of 4 tokens, the largest bucket is 3",
        ),
    ],
)
def test_pairs_that_cannot_be_batched_are_named(pairs, batch_size, message):
    with pytest.raises(ValueError, match=message):
        pairs_batches(pairs, (4,), (3, 2), batch_size)
