import json
import logging as std_logging
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from tiny_text import story, write
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from latadj_jax.data.running_text import load_corpus
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.text_files import read_text
from latadj_jax.data.train_tokenizer import train_tokenizer
from latadj_jax.errors import DataError
from latadj_jax.pretrained.tokenizers import encode_text, load_tokenizer

# ---- reading ------------------------------------------------------------------------------------


def test_a_text_is_kept_but_for_its_bom_and_windows_line_ends(tmp_path):
    file = write(tmp_path / "a.txt", "\ufeff = Title = \r\n next\x85line\u2028 \n")
    assert read_text(file) == " = Title = \n next\x85line\u2028 \n"
    assert read_text(str(file)) == read_text(file)


def test_broken_bytes_are_replaced_and_counted(tmp_path, caplog):
    file = write(tmp_path / "a.txt", b"caf\xe9 \xef\xbf\xbd \xff.")
    with caplog.at_level(std_logging.WARNING):
        assert read_text(file) == "caf\ufffd \ufffd \ufffd."
    assert "2 broken characters" in caplog.text  # not the U+FFFD that the file already held


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt is empty"),
        (b" \r\n", r"a\.txt is empty"),
        ("text".encode("utf-16"), r"a\.txt is UTF-16; save it as UTF-8"),
        (b"PAR1\0\1", r"a\.txt is a binary file"),
    ],
)
def test_a_file_without_text_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_text(write(tmp_path / "a.txt", content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file '.*nowhere\.txt'"):
        read_text(tmp_path / "nowhere.txt")


# ---- the corpus, from files ---------------------------------------------------------------------


def corpus(path, train="train.txt", evals=("valid.txt", "test.raw.txt"), **settings):
    data = DataSettings(path=str(path), train_file=train, eval_files=evals, **settings)
    return load_corpus(data)


def test_the_case_of_a_suffix_says_nothing(tmp_path):
    write(tmp_path / "A.JSONL", '{"text": "one"}\n{"text": "two"}\n')
    write(tmp_path / "b.txt", "held out\n")
    assert corpus(tmp_path, "A.JSONL", ("b.txt",))[0] == "one\n\ntwo"
    write(tmp_path / "C.CSV", "text\none\n")
    with pytest.raises(DataError, match=r"C\.CSV is no running text"):
        corpus(tmp_path, "C.CSV", ("b.txt",))


def test_a_folder_of_texts(tmp_path):
    for name in ("train", "valid", "test.raw"):
        write(tmp_path / f"{name}.txt", f"{name}\n")
    train, evals = corpus(tmp_path)
    assert (train, evals) == ("train\n", {"valid": "valid\n", "test.raw": "test.raw\n"})


def test_json_lines_are_documents_with_a_blank_line_between(tmp_path):
    rows = ['{"text": "a\x85b", "id": 1}', r'{"text": "cut \ud83d"}']
    write(tmp_path / "train.jsonl", "\n".join(rows) + "\n\n")
    write(tmp_path / "dev.jsonl", json.dumps({"body": "c", "text": 1}))
    settings = {"train": "train.jsonl", "evals": ("train.jsonl",)}
    assert corpus(tmp_path, **settings)[0] == "a\x85b\n\ncut \ufffd"  # half an emoji has no token
    settings = {"train": "dev.jsonl", "evals": ("dev.jsonl",), "text_columns": ("other",)}
    assert corpus(tmp_path, local_text_columns=("body",), **settings)[0] == "c"


def test_an_array_of_objects_is_read_too(tmp_path):
    write(tmp_path / "train.json", json.dumps([{"text": "a"}, {"text": "b"}], indent=2))
    settings = {"train": "train.json", "evals": ("train.json",)}
    assert corpus(tmp_path, **settings)[0] == "a\n\nb"


def test_json_lines_that_are_lines_are_joined_as_they_are(tmp_path):
    rows = ["", " = Title = \n", "", " Text . \n"]
    write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": row}) for row in rows))
    assert corpus(tmp_path, "a.jsonl", ("a.jsonl",))[0] == " = Title = \n Text . \n"


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_end_of_a_single_file_is_the_test(tmp_path, fraction):
    content = story(3)
    train, evals = corpus(write(tmp_path / "all.txt", content), eval_fraction=fraction)
    assert train + evals["test"] == content
    assert list(evals) == ["test"]
    assert train.endswith("\n")
    # Never less than asked for, and not a line too many.
    assert 0 <= len(evals["test"]) - fraction * len(content) <= 100


@pytest.mark.parametrize("content", ["one line only\n", "\n\nline\n"])
def test_a_file_of_too_few_lines_is_not_split(tmp_path, content):
    with pytest.raises(DataError, match=r"all\.txt has too few lines to hold out a 0\.5 share"):
        corpus(write(tmp_path / "all.txt", content), eval_fraction=0.5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl, row 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, row 1: not a JSON object"),
        (
            "a.jsonl",
            '{"body": "a"}',
            r"row 1 has no column 'text'; it has: body\. Set .*local_text",
        ),
        ("a.jsonl", '\n{"text": null}\n', "row 2: a text is not a string"),
        ("a.jsonl", '{"text": ""}\n{"text": " "}', r"a\.jsonl holds no text"),
        ("a.tsv", "text\tlabel\n", r"a\.tsv is no running text; make it \.txt"),
    ],
)
def test_a_broken_file_names_the_place(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        corpus(tmp_path, name, (name,))


def test_files_that_are_not_there_or_share_a_name(tmp_path):
    write(tmp_path / "train.txt", "a")
    write(tmp_path / "train.jsonl", '{"text": "a"}')
    with pytest.raises(
        DataError, match=r"has no file 'dev\.txt'; it has: train\.jsonl, train\.txt"
    ):
        corpus(tmp_path, evals=("dev.txt",))
    with pytest.raises(DataError, match="need names that differ"):
        corpus(tmp_path, evals=("train.txt", "train.jsonl"))
    with pytest.raises(ValueError, match="There is no folder or file"):
        corpus(tmp_path / "nowhere")


def test_a_path_that_only_the_hub_could_have_is_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"config\.data\.path is 'nowhere': there is no such folder"
    ):
        corpus("nowhere")


# ---- the corpus, from the hub -------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    import datasets

    def use(**splits):
        def load_dataset(name, config=None, *, split):
            assert (name, config) == ("x/y", "z")
            if split not in splits:
                raise ValueError(f'Unknown split "{split}".\nmore')
            return datasets.Dataset.from_dict({"text": splits[split]})

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return use


def hub_corpus(**settings):
    return load_corpus(DataSettings(hub="x/y", hub_config="z", **settings))


def test_hub_lines_are_joined_as_they_are_and_documents_by_blank_lines(hub):
    hub(train=["", " = A = \n", "", " b \n"], validation=["one\ntwo", "three"], test=["t"])
    train, evals = hub_corpus(eval_splits=("validation", "test"))
    assert train == " = A = \n b \n"
    assert evals == {"validation": "one\ntwo\n\nthree", "test": "t"}


def test_a_hub_that_fails_is_one_sentence_with_the_way_out(hub):
    hub(train=["a"])
    with pytest.raises(DataError) as caught:
        hub_corpus()
    message = str(caught.value)
    assert "x/y/z validation could not be loaded" in message
    assert 'Unknown split "validation")' in message
    assert "--config.data.path" in message
    assert "\n" not in message
    assert caught.value.__suppress_context__


def test_a_hub_column_that_is_missing_or_empty_is_named(hub):
    hub(train=["a"], validation=[""])
    message = r"x/y/z train has no column 'body'; it has: text\. Set config\.data\.text_columns"
    with pytest.raises(DataError, match=message):
        hub_corpus(text_columns=("body",))
    with pytest.raises(DataError, match="x/y/z validation holds no text"):
        hub_corpus()


# ---- tokens -------------------------------------------------------------------------------------


def test_ids_are_those_of_the_whole_text(tokenizer):
    """Fails where the text is cut into chunks that change its tokens, or loses characters."""
    content = story(1) + "\n\n\n  new  words: é 日本 \x85 1,234\n"
    ids = encode_text(tokenizer, content)
    assert ids.dtype == np.int32
    assert ids.tolist() == tokenizer.backend_tokenizer.encode(content).ids
    assert tokenizer.decode(ids) == content
    assert encode_text(tokenizer, "").tolist() == []


def test_a_tokenizer_that_adds_special_tokens_adds_none_here(tokenizer):
    from tokenizers.processors import TemplateProcessing

    bos = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bos.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=bos, bos_token="<|endoftext|>")
    assert wrapped("old")["input_ids"][0] == 0
    assert 0 not in encode_text(wrapped, "old")


def test_a_text_longer_than_the_model_s_input_does_not_warn(tokenizer, caplog):
    short = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, model_max_length=8
    )
    root = std_logging.getLogger("transformers")
    root.addHandler(caplog.handler)
    try:
        assert len(encode_text(short, story(1))) > 1000  # not cut either
        assert "longer than" not in caplog.text
        short(story(1))  # the message is there to be had
        assert "longer than" in caplog.text
    finally:
        root.removeHandler(caplog.handler)


def test_a_trained_tokenizer_has_the_size_the_bytes_and_one_special_token(tokenizer):
    assert len(tokenizer) == 310
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.unk_token_id == 0
    assert tokenizer.convert_ids_to_tokens(0) == "<|endoftext|>"
    every_byte = "".join(map(chr, range(0x800))) + "日本語 😀"
    assert tokenizer.decode(encode_text(tokenizer, every_byte)) == every_byte
    assert 0 not in encode_text(tokenizer, every_byte)
    assert len(encode_text(tokenizer, " river")) == 1  # it has learned words, with their space
    assert len(encode_text(tokenizer, " Ω")) == 3  # and split what it has not seen
    assert tokenizer.decode(encode_text(tokenizer, "a , b . c n't")) == "a , b . c n't"


def test_the_same_text_gives_the_same_tokenizer_in_another_process(tokenizer):
    program = (
        "import sys; from latadj_jax.data.train_tokenizer import train_tokenizer\n"
        "print(train_tokenizer(sys.stdin.read(), 310).backend_tokenizer.to_str())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=story(0), capture_output=True, text=True, check=True, encoding="utf-8",
        cwd=ROOT,
    )  # fmt: skip
    assert json.loads(run.stdout) == json.loads(tokenizer.backend_tokenizer.to_str())


def test_a_trained_tokenizer_can_be_saved_and_loaded(tmp_path):
    saved = train_tokenizer(story(0), 300, tmp_path / "model")
    loaded = load_tokenizer(str(tmp_path / "model"))
    assert encode_text(loaded, story(2)).tolist() == encode_text(saved, story(2)).tolist()
    assert (loaded.eos_token_id, len(loaded)) == (0, 300)
    assert loaded.decode(encode_text(loaded, "a , b")) == "a , b"


def test_a_vocabulary_smaller_than_the_bytes_is_refused_and_a_short_text_gives_what_it_can():
    with pytest.raises(DataError, match=r"at least 257, .* it is 256"):
        train_tokenizer("text", 256)
    assert len(train_tokenizer("text", 257)) == 257
    assert len(train_tokenizer("text", 1000)) == 257  # no pair occurs twice
