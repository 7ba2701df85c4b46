"""Words as token ids: those of the text that they make, and which word each token is part of."""

import numpy as np
import pytest
import tiny_run
from transformers import BertTokenizer

from latadj_jax.errors import DataError
from latadj_jax.pretrained.tokenizers import encode
from latadj_jax.pretrained.words import encode_words, starts_of

WORDS = ("the", "river", "house,", "old", ".")


@pytest.mark.parametrize("which", ["bert", "byte level", "spiece"])
def test_tokens_are_those_of_the_text_with_spaces_between(tmp_path, tokenizer, spiece, which):
    """Fails where a byte-level vocabulary reads words without the spaces before them."""
    tokenizers = {"byte level": tokenizer, "spiece": spiece}
    read_by = tokenizers.get(which) or tiny_run.tokenizer(tmp_path)
    words = ("good", "word1,", "bad") if which == "bert" else WORDS
    (example,), (words_T,) = encode_words(read_by, [words], 99, False)
    (expected,) = encode(read_by, [(" ".join(words),)], 99, False)
    assert {key: ids.tolist() for key, ids in example.items()} == {
        key: ids.tolist() for key, ids in expected.items()
    }
    assert words_T.dtype == np.int32
    inner = words_T[words_T >= 0]
    assert (np.diff(inner) >= 0).all()
    assert set(inner.tolist()) == set(range(len(words)))
    first, *_ = starts_of(words_T, len(words))
    assert first == (1 if which == "bert" else 0)


def test_a_word_may_have_no_token_or_be_cut(tmp_path):
    read_by = tiny_run.tokenizer(tmp_path)
    texts = [("good", "\u200d", "word1-word2", "bad")]
    (example,), (words_T,) = encode_words(read_by, texts, 99, False)
    assert words_T.tolist() == [-1, 0, 2, 2, 2, 3, -1]
    (example,), (words_T,) = encode_words(read_by, texts, 4, True)
    assert len(example["input_ids"]) == 4
    assert words_T.tolist() == [-1, 0, 2, -1]
    assert starts_of(words_T, 4).tolist() == [1, -1, 2, -1]
    assert encode_words(read_by, [], 4, True) == ([], [])


def test_half_an_emoji_is_read_as_any_broken_character(tmp_path):
    (example,), _ = encode_words(
        tiny_run.tokenizer(tmp_path), [("good", "\ud83d", "bad")], 9, False
    )
    assert example["input_ids"].tolist()[1] == 5


def test_what_is_too_long_or_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(
        DataError, match=r"1 of 1 texts are longer .*example 7 \(from 0\), which beg"
    ):
        encode_words(tiny_run.tokenizer(tmp_path), [("good", "bad")], 3, False, [7])
    (tmp_path / "vocab.txt").write_text("\n".join(w for w in tiny_run.SPECIAL if w != "[UNK]"))
    lacking = BertTokenizer(str(tmp_path / "vocab.txt"), unk_token="[MASK]")
    lacking.backend_tokenizer.model.unk_token = "[UNK]"
    with pytest.raises(
        DataError, match=r"^Example 7 \(from 0\) cannot be read by its tokenizer \("
    ):
        encode_words(lacking, [("[PAD]",), ("good",)], 9, False, [2, 7])

    class Slow:
        is_fast = False

    with pytest.raises(DataError, match=r"does not say where .* tags need a fast tokenizer"):
        encode_words(Slow(), [("a",)], 9, False)
