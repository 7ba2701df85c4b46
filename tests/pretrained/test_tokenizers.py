"""Token ids of texts and pairs, and folders whose tokenizer cannot be read."""

import json
import shutil

import numpy as np
import pytest

from latadj_jax.errors import DataError
from latadj_jax.pretrained import tokenizers
from latadj_jax.pretrained.tokenizers import encode

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##c"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    (path / "config.json").write_text(
        json.dumps({"model_type": "bert", "architectures": ["BertModel"]})
    )
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return tokenizers.load_tokenizer(str(model_folder))


def test_encode_single_texts(tokenizer):
    encoded = encode(tokenizer, [("a bc",), ("B",)], 8, True)
    assert [list(row) for row in encoded] == [["input_ids", "token_type_ids"]] * 2
    assert [row["input_ids"].tolist() for row in encoded] == [[2, 5, 6, 8, 3], [2, 6, 3]]
    assert {array.dtype for row in encoded for array in row.values()} == {np.dtype(np.int32)}


def test_encode_pairs(tokenizer):
    (row,) = encode(tokenizer, [("a", "b c")], 8, False)
    assert row["input_ids"].tolist() == [2, 5, 3, 6, 7, 3]
    assert row["token_type_ids"].tolist() == [0, 0, 0, 1, 1, 1]


def test_truncation_cuts_the_longer_side(tokenizer):
    (row,) = encode(tokenizer, [("a", "b b b b b b")], 6, True)
    assert row["input_ids"].tolist() == [2, 5, 3, 6, 6, 3]


def test_too_long_without_truncation_names_what_and_the_fix(tokenizer):
    texts = [("a",), ("a b c",), ("a b c a",)]
    with pytest.raises(DataError, match=r"2 of 3 texts .*\(4 tokens\).* has 6, .* example 1 ") as e:
        encode(tokenizer, texts, 4, False)
    assert "truncate=True" in str(e.value)
    assert len(encode(tokenizer, texts, 6, False)) == 3  # exactly as long is not too long


def test_encode_of_nothing(tokenizer):
    assert encode(tokenizer, [], 8, True) == []


def test_a_folder_without_tokenizer_files_is_refused(tmp_path, model_folder):
    shutil.copy(model_folder / "config.json", tmp_path)
    with pytest.raises(DataError, match=r"has no tokenizer; needed is one of: tokenizer\.json"):
        tokenizers.load_tokenizer(str(tmp_path))


def test_a_broken_tokenizer_is_one_sentence(tmp_path, model_folder):
    shutil.copy(model_folder / "config.json", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"The tokenizer of .* cannot be read"):
        tokenizers.load_tokenizer(str(tmp_path))
