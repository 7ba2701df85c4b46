"""Exact match and F1 as SQuAD counts them, and answers found from the logits of windows."""

import numpy as np
import pytest

from latadj_jax.evaluation.answers import (
    answer_metrics,
    exact_match,
    f1,
    found_answers,
    normalized,
)
from latadj_jax.pretrained.question_windows import Windows


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The  Old-Town,\nof York!", "oldtown of york"),
        ("an apple a day", "apple day"),
        ("theatre of Athens", "theatre of athens"),  # articles are whole words
        ("$1,000.50", "100050"),
        ("“the” café", "“ ” café"),  # only ASCII punctuation goes
        ("the", ""),
    ],
)
def test_normalized_as_the_script_does(text, same):
    assert normalized(text) == same


@pytest.mark.parametrize(
    ("prediction", "answer", "match", "score"),
    [
        ("York", "york.", 1, 1),
        ("the old town of York", "York", 0, 0.4),  # 1 of 4 words, 1 of 1
        ("old old town", "old town", 0, 0.8),  # a word counts as often as both have it
        ("London", "York", 0, 0),
        ("", "York", 0, 0),
        ("York", "", 0, 0),
        ("", "", 1, 1),  # no answer, rightly
        ("the", "", 1, 1),
        ("the", "The", 1, 0),  # version 1.1 finds no word that both have
    ],
)
def test_one_answer(prediction, answer, match, score):
    assert exact_match(prediction, answer) == match
    assert f1(prediction, answer) == pytest.approx(score)


def test_the_best_over_the_answers_and_the_mean_over_the_questions():
    answers = [["the town", "York"], [], ["x y"]]
    found = answer_metrics(("exact_match", "f1"), answers, ["york", "", "y"])
    assert found == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx((1 + 1 + 2 / 3) / 3)}
    assert list(answer_metrics(("f1",), answers, ["", "york", ""])) == ["f1"]
    assert answer_metrics(("f1",), answers, ["", "york", ""])["f1"] == 0


def test_each_question_has_the_best_of_its_own_windows():
    """Padding behind a window's end is no token, though its logits are the largest."""
    offsets = np.array([[-1, -1], [0, 1], [2, 3]], np.int32)
    windows = Windows(
        [{}] * 3, [offsets, offsets + 4 * (offsets >= 0), offsets], np.array([0, 0, 1])
    )
    logits = np.full((3, 5, 2), 0, np.float32)
    logits[:, 3:] = 9
    logits[1, 2] = 2
    logits[2, 0] = 1
    contexts = ["a b c d", "e f"]
    assert found_answers(contexts, windows, logits) == ["d", "e"]
    assert found_answers(contexts, windows, logits, no_answer=True) == ["d", ""]
