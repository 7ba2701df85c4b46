"""Windows of contexts: as the tokenizer's own truncation cuts them, and what is refused."""

import numpy as np
import pytest
import tiny_run

from latadj_jax.errors import DataError, TextError
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.pretrained import question_windows
from latadj_jax.pretrained.question_windows import encode_in_windows

PAIRS = [
    ("good word1 ?", " ".join(f"word{n}" for n in range(30))),
    ("bad", "word1 word2"),
    ("word5 word6 word7", " ".join(f"word{n % 40}" for n in range(45))),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tiny_run.tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(("longest", "stride"), [(16, 4), (16, 0), (40, 15), (64, 20)])
def test_windows_are_those_of_the_tokenizer_s_own_truncation(words, monkeypatch, longest, stride):
    """Also where a batch of the tokenizer ends between two questions."""
    monkeypatch.setattr(question_windows, "AT_ONCE", 2)
    found = encode_in_windows(words, PAIRS, longest, stride)
    questions, contexts = map(list, zip(*PAIRS, strict=True))
    theirs = words(
        questions, contexts, truncation="only_second", max_length=longest, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    assert found.questions.tolist() == theirs["overflow_to_sample_mapping"]
    for n, (window, offsets) in enumerate(zip(found.examples, found.offsets, strict=True)):
        for key in ("input_ids", "token_type_ids"):
            assert window[key].tolist() == theirs[key][n]
        parts = theirs.sequence_ids(n)
        assert window[PROTECTED].tolist() == [int(part == 0) for part in parts]
        for part, (start, end), at in zip(parts, offsets, theirs["offset_mapping"][n], strict=True):
            assert (start, end) == (at if part == 1 else (-1, -1))


def test_windows_of_each_question(words):
    found = encode_in_windows(words, PAIRS, 16, 4)
    own = found.of_each(3)
    assert [np.unique(found.questions[part]).tolist() for part in own] == [[0], [1], [2]]
    assert own[-1].stop == len(found.examples)


def test_every_token_of_a_context_is_in_a_window_however_wide_the_stride(words):
    """A stride is at most half of what a window has of the context, or it would not move on."""
    question, context = PAIRS[0]
    found = encode_in_windows(words, [(question, context)], 11, 500)
    starts = {int(start) for offsets in found.offsets for start in offsets[:, 0]} - {-1}
    assert starts == {n for n in range(len(context)) if n == 0 or context[n - 1] == " "}


def test_characters_are_those_of_the_text_without_lone_surrogates(words):
    found = encode_in_windows(words, [("good", "\ud800 word1")], 16, 4)
    assert found.offsets[0].max() == len("\ud800 word1")


@pytest.mark.parametrize(
    ("question", "context", "message"),
    [
        (
            "good " * 13,
            "word1",
            r"^question 1 has 16 tokens with special ones, which leave no room",
        ),
        ("good", " ", r"^question 1 has a context without tokens"),
    ],
)
def test_what_no_window_can_hold_is_one_sentence(words, question, context, message):
    with pytest.raises(TextError, match=message) as caught:
        encode_in_windows(words, [PAIRS[1], (question, context)], 16, 4)
    assert caught.value.number == 1


def test_a_tokenizer_that_knows_no_places_is_refused(words):
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match=r"Slow does not say where .* need a fast tokenizer"):
        encode_in_windows(Slow(), PAIRS, 16, 4)
