"""Words as tokens: the first token of a word has its tag, and no word is lost in silence."""

import numpy as np
import pytest
import tiny_run

from latadj_jax.data.encoded import collate
from latadj_jax.data.labelled_examples import Examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tagged_tokens import encode_tagged
from latadj_jax.errors import DataError

# "word1" is a token; "good-bad" are three, and "\u200d" is none.
TEXTS = [("word1", "good-bad", "word2"), ("\u200d", "good")]


def tagged(*tags) -> np.ndarray:
    labels = np.empty(len(tags), object)
    labels[:] = [np.array(of_text, np.int32) for of_text in tags]
    return labels


def encoded(tmp_path, labels, **settings):
    data = DataSettings(path="x", **{"max_length": 10, **settings})
    return encode_tagged(tiny_run.tokenizer(tmp_path), Examples(TEXTS, labels), data)


def test_the_first_token_of_a_word_has_its_tag(tmp_path, caplog):
    found = encoded(tmp_path, tagged([1, 2, 3], [1, 2]))
    assert [len(example["input_ids"]) for example in found.examples] == [7, 3]
    assert (found.labels.dtype, found.labels_of) == (np.int32, "token")
    assert found.labels.tolist() == [
        [-1, 1, 2, -1, -1, 3, -1, -1, -1, -1],
        [-1, 2, -1, -1, -1, -1, -1, -1, -1, -1],
    ]
    assert [starts.tolist() for starts in found.starts] == [[1, 2, 5], [-1, 1]]
    assert "1 of 5 words are without a token: they are not learned from" in caplog.text
    assert "are cut" not in caplog.text
    batch = collate(found, np.array([1, 0]), 8, 2)
    assert batch["labels"].tolist() == found.labels[[1, 0], :8].tolist()


def test_words_that_are_cut_away_are_counted(tmp_path, caplog):
    found = encoded(tmp_path, tagged([1, 2, 3], [1, 2]), max_length=5, truncate=True)
    assert found.labels.tolist() == [[-1, 1, 2, -1, -1], [-1, 2, -1, -1, -1]]
    assert [starts.tolist() for starts in found.starts] == [[1, 2, -1], [-1, 1]]
    assert "1 of 5 words are cut at 5 tokens" in caplog.text
    with pytest.raises(
        DataError, match=r"1 of 2 texts are longer than config\.data\.max_length \(5"
    ):
        encoded(tmp_path, tagged([1, 2, 3], [1, 2]), max_length=5)


def test_without_tags_there_are_no_labels(tmp_path):
    found = encoded(tmp_path, np.full(2, np.nan, np.float32))
    assert (found.labels == -1).all()
    assert found.starts[0].tolist() == [1, 2, 5]
