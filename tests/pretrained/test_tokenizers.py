"""Token ids of texts and pairs, and folders whose tokenizer cannot be read."""

import itertools
import json
import shutil
import sys

import numpy as np
import pytest
import tiny

from latadj_jax.errors import DataError
from latadj_jax.families.registry import config_from_hf
from latadj_jax.pretrained import tokenizers
from latadj_jax.pretrained.tokenizers import encode, end_tokens, eos_token_id

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


def test_a_tokenizer_that_needs_no_vocabulary_is_read(tmp_path):
    """ByT5's tokens are bytes."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    about = {"tokenizer_class": "ByT5Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    tokenizer = tokenizers.load_tokenizer(str(tmp_path))
    (row,) = encode(tokenizer, [("hé",)], 8, False)
    assert row["input_ids"].tolist() == [3 + byte for byte in "hé".encode()] + [1]


EMPTY = [
        {},
        {"tokenizer_config.json": {"model_max_length": 512}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"9": {
            "content": "<tool>", "special": False, "lstrip": False, "rstrip": False,
            "normalized": False, "single_word": False}}}},
        {"added_tokens.json": {"<tool>": 9}},
]  # fmt: skip
ALL = ("bert", "gpt2", "llama", "t5", "roberta", "camembert", "deberta-v2")


@pytest.mark.parametrize(
    ("family", "files"),
    # BERT and GPT-2 do not read a file of SentencePiece's, which other families have.
    [
        *itertools.product(ALL, EMPTY),
        ("bert", {"spiece.model": {}}),
        ("gpt2", {"spiece.model": {}}),
    ],
)
def test_an_empty_tokenizer_is_none(family, files, tmp_path):
    """transformers makes one of special and added tokens alone where it finds no vocabulary."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has no tokenizer; needed is one of: tokenizer\.json"):
        tokenizers.load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(("family", "file"), [("deberta-v2", "spm.model"), ("t5", "spiece.model")])
def test_a_file_of_sentencepiece_alone_says_what_it_needs(family, file, tmp_path, monkeypatch):
    """As microsoft/deberta-v3-base has it: transformers would ask for tiktoken."""
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # not installed
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / file).write_bytes(b"pieces")
    with pytest.raises(DataError, match="SentencePiece's: pip install sentencepiece protobuf"):
        tokenizers.load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        tokenizers.load_tokenizer(str(tmp_path))


def test_half_an_emoji_becomes_u_fffd(tokenizer):
    cases = {
        "cut \ud83d": "cut \ufffd",
        "\udc00\ud83d b": "\ufffd\ufffd b",
        "\ud83d\ude00": "\U0001f600",  # both halves are one character
        "\udcff": "\ufffd",  # a byte of an argument that is no UTF-8
        "plain é 🙂": "plain é 🙂",
    }
    for text, expected in cases.items():
        assert tokenizers.without_surrogates(text) == expected
        expected_ids = encode(tokenizer, [(expected, "a")], 64, False)[0]["input_ids"]
        (row,) = encode(tokenizer, [(text, "a")], 64, False)
        np.testing.assert_array_equal(row["input_ids"], expected_ids)
        np.testing.assert_array_equal(
            tokenizers.encode_text(tokenizer, text), tokenizers.encode_text(tokenizer, expected)
        )


def test_what_ends_a_text_is_the_configs_and_the_tokenizers(tokenizer):
    config = config_from_hf(tiny.hf_config("gpt2", "lm", eos_token_id=[3, 4]))
    assert end_tokens(tokenizer, config) == (3, 4)  # this one has none of its own
    tokenizer.eos_token = "b"
    try:
        assert end_tokens(tokenizer, config) == (3, 4, WORDS.index("b"))
        assert end_tokens(tokenizer, config.replace(eos_tokens=(6,))) == (6,)
        assert end_tokens(tokenizer, config.replace(vocab_size=6)) == (3, 4)  # not in the model
    finally:
        tokenizer.eos_token = None


EOS = {"content": "<|im_end|>", "special": True}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"eos_token": "<|im_end|>", "added_tokens_decoder": {"5": EOS}}},
        {"tokenizer_config.json": {"eos_token": EOS, "added_tokens_decoder": {"5": EOS}}},
        {
            "special_tokens_map.json": {"eos_token": EOS},
            "tokenizer.json": {"added_tokens": [{"content": "<s>", "id": 1}, {**EOS, "id": 5}]},
        },
        {
            "tokenizer_config.json": {"eos_token": "<|im_end|>"},
            "tokenizer.json": {"model": {"vocab": {"a": 0, "<|im_end|>": 5}}},
        },
        {
            "tokenizer_config.json": {"eos_token": "b"},
            "tokenizer.json": {"model": {"vocab": [[letter, 0.0] for letter in "aaaaab"]}},
        },
        {
            "tokenizer_config.json": {"eos_token": "<|im_end|>"},
            "added_tokens.json": {"<|im_end|>": 5},
        },
    ],
)
def test_the_end_of_text_is_read_from_a_tokenizers_files(files, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert eos_token_id(tmp_path) == 5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer_config.json": '{"eos_token": "<|im_end|>"}'},  # no id
        {"tokenizer_config.json": "{"},
        {"tokenizer_config.json": '{"added_tokens_decoder": {"5": {"content": "<pad>"}}}'},
        {"tokenizer_config.json": '{"eos_token": "x", "added_tokens_decoder": [1]}'},
        {"tokenizer_config.json": '{"eos_token": "x", "added_tokens_decoder": {"5": {}}}'},
        {"tokenizer_config.json": '{"eos_token": "x", "added_tokens_decoder": {"5": "x"}}'},
        {"tokenizer_config.json": '{"eos_token": "x", "added_tokens_decoder": {"a": {}}}'},
        {"tokenizer_config.json": '{"eos_token": "x"}', "tokenizer.json": '{"added_tokens": {}}'},
        {"tokenizer_config.json": '{"eos_token": "x"}', "tokenizer.json": '{"model": []}'},
        {"tokenizer_config.json": '{"added_tokens_decoder": {"5": {"content": null}}}'},
    ],
)
def test_a_tokenizer_that_names_no_end_of_text_has_none(files, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert eos_token_id(tmp_path) is None


def test_a_text_with_a_character_that_no_token_has_is_named(tmp_path):
    """A vocabulary without [UNK]: the tokenizers package raises a bare Exception, of no text."""
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(word for word in WORDS if word != "[UNK]"))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"), unk_token="[MASK]")
    tokenizer.backend_tokenizer.model.unk_token = "[UNK]"
    with pytest.raises(
        DataError, match=r"^Example 7 \(from 0\) cannot be read by its tokenizer \("
    ):
        encode(tokenizer, [("a",), ("é",)], 8, False, numbers=[3, 7])
