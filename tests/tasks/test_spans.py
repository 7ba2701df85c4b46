"""The best span over all windows: by hand, and against a loop over all pairs of tokens."""

import itertools
import math

import numpy as np
import pytest

from latadj_jax.tasks.spans import best_spans

CONTEXT = "in old York town"
# CLS, a question of one token, SEP, four tokens of the context, SEP.
OFFSETS = np.array([[-1] * 2] * 3 + [[0, 2], [3, 6], [7, 11], [12, 16]] + [[-1] * 2], np.int32)


def window(start: dict[int, float], end: dict[int, float], size: int = 8) -> np.ndarray:
    """Logits [tokens, 2], 0 but for those that are given."""
    logits_T2 = np.zeros((size, 2), np.float32)
    for which, given in enumerate((start, end)):
        for token, value in given.items():
            logits_T2[token, which] = value
    return logits_T2


def texts(*windows, offsets=None, **options) -> list[str]:
    offsets = offsets or [OFFSETS] * len(windows)
    return [found.answer for found in best_spans(CONTEXT, windows, offsets, **options)]


@pytest.mark.parametrize(
    ("start", "end", "answer"),
    [
        ({4: 3}, {5: 2}, "old York"),
        ({0: 9, 1: 9, 4: 3}, {7: 9, 5: 2}, "old York"),  # CLS, question, SEP: not in the context
        ({5: 5}, {4: 4, 6: 1}, "York town"),  # an end before the start is none
        ({4: 1}, {4: 1}, "old"),  # one token
        ({}, {}, "in"),  # of equals the first
    ],
)
def test_the_best_pair_of_tokens_in_the_context(start, end, answer):
    assert texts(window(start, end)) == [answer]


def test_no_answer_is_longer_than_allowed():
    logits = window({3: 5}, {6: 5})
    assert texts(logits) == ["in old York town"]
    assert texts(logits, most_tokens=3) == ["in"]


def test_the_best_of_all_windows_by_the_sum_of_logits():
    """Not by probability within a window: the second is surer, the first has the larger sum."""
    sure_of_less = window({5: 6}, {5: 6}) - 6
    assert texts(window({4: 5}, {4: 5}), sure_of_less) == ["old"]


def test_a_span_that_two_windows_have_is_given_once_with_its_best_score():
    one, other = window({4: 2}, {5: 2}), window({4: 3}, {5: 3})
    found = best_spans(CONTEXT, [one, other], [OFFSETS] * 2, top_k=3)
    assert [f.answer for f in found].count("old York") == 1
    assert found[0] == best_spans(CONTEXT, [other, one], [OFFSETS] * 2)[0]


def test_scores_are_probabilities_of_both_ends_among_the_context_and_cls():
    found = best_spans(CONTEXT, [window({0: 1, 1: 50, 4: 3}, {5: 2})], [OFFSETS], top_k=99)
    total = (math.e + 3 + math.e**3) * (4 + math.e**2)
    assert found[0].score == pytest.approx(math.exp(5) / total)
    assert len(found) == 4 + 3 + 2 + 1  # every pair, in order of score
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)


def test_no_answer_is_what_the_window_says_that_is_surest_of_one():
    """A window without the answer is sure of CLS, and that says nothing."""
    elsewhere, here = window({0: 9}, {0: 9}), window({0: 1, 4: 3}, {0: 1, 5: 2})
    assert texts(elsewhere, here, no_answer=True) == ["old York"]
    none = window({0: 3, 4: 3}, {0: 3, 5: 2})
    assert texts(elsewhere, none, no_answer=True) == [""]
    assert texts(elsewhere, none) == ["old York"]
    first, second = best_spans(CONTEXT, [none], [OFFSETS], 2, no_answer=True)
    assert first[1:] == (0, 0, "")
    assert second.answer == "old York"
    assert first.score > second.score


def test_white_space_that_a_tokenizer_counts_to_a_token_is_no_answer():
    offsets = OFFSETS.copy()
    offsets[4:7, 0] -= 1  # as SentencePiece: " old", " York", " town"
    (found,) = best_spans(CONTEXT, [window({4: 3}, {5: 2})], [offsets])
    assert found[1:] == (3, 11, "old York")


@pytest.mark.parametrize("most_tokens", [1, 3, 30])
def test_as_a_loop_over_all_pairs_finds(most_tokens):
    rng = np.random.default_rng(most_tokens)
    windows = [rng.normal(size=(8, 2)).astype(np.float32) for _ in range(3)]
    expected: dict[tuple[int, int], float] = {}
    for logits, first, last in itertools.product(windows, range(3, 7), range(3, 7)):
        if first <= last < first + most_tokens:
            at = int(OFFSETS[first, 0]), int(OFFSETS[last, 1])
            total = float(logits[first, 0]) + float(logits[last, 1])
            expected[at] = max(expected.get(at, -np.inf), total)
    order = sorted(expected, key=expected.get, reverse=True)
    found = best_spans(CONTEXT, windows, [OFFSETS] * 3, 99, most_tokens)
    assert [(f.start, f.end) for f in found] == order
