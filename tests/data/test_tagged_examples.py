"""Texts of words with tags: from CoNLL files, JSON lines and the hub; what is refused, and how."""

import json
import logging

import numpy as np
import pytest

from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tagged_examples import load_tagged
from latadj_jax.errors import DataError
from latadj_jax.tasks.tags import TAGS

TRAIN = "Ann\tB-per\nLee\tI-per\nsings\tO\n\nOslo\tB-loc\n"
DEV = "in\tO\nOslo\tB-loc\n"


def write(path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


def folder(tmp_path, train: str = TRAIN, dev: str = DEV, suffix: str = "conll", **settings):
    write(tmp_path / f"train.{suffix}", train)
    write(tmp_path / f"dev.{suffix}", dev)
    files = {"train_file": f"train.{suffix}", "eval_files": (f"dev.{suffix}",)}
    return DataSettings(path=str(tmp_path), **files, **settings)


def tags_of(examples, names) -> list[list[str]]:
    return [[names[tag] for tag in tags] for tags in examples.labels]


@pytest.mark.parametrize("suffix", ["conll", "txt", "tsv", "bio", "annotated"])
def test_conll_files_give_words_and_the_ids_of_their_tags(tmp_path, suffix):
    train, evals, names = load_tagged(folder(tmp_path, suffix=suffix), TAGS)
    assert names == ("O", "B-loc", "B-per", "I-per")  # O first, whatever sorts before it
    assert train.texts == [("Ann", "Lee", "sings"), ("Oslo",)]
    assert [tags.dtype for tags in train.labels] == [np.int32] * 2
    assert tags_of(train, names) == [["B-per", "I-per", "O"], ["B-loc"]]
    assert evals["dev"].texts == [("in", "Oslo")]
    assert tags_of(evals["dev"], names) == [["O", "B-loc"]]
    assert tags_of(train.subset([1]), names) == [["B-loc"]]


def test_columns_are_those_of_the_settings(tmp_path):
    data = folder(
        tmp_path, "1 Ann NNP B-per\n", "1 in IN O\n", local_text_columns=("1",),
        local_label_column="2", labels=("IN", "NNP"),
    )  # fmt: skip
    train, evals, names = load_tagged(data, TAGS)
    assert (train.texts, tags_of(train, names)) == ([("Ann",)], [["NNP"]])
    assert tags_of(evals["dev"], names) == [["IN"]]


def test_json_lines_hold_a_list_of_words_and_one_of_tags(tmp_path):
    row = json.dumps({"tokens": ["Ann", "sings"], "ner_tags": ["B-per", "O"]}) + "\n"
    ids = json.dumps({"tokens": ["Oslo"], "ner_tags": ["B-per"]}) + "\n"
    data = folder(
        tmp_path, row, ids, "jsonl", text_columns=("tokens",), label_column="ner_tags"
    )  # fmt: skip
    train, evals, names = load_tagged(data, TAGS)
    assert (names, train.texts) == (("O", "B-per"), [("Ann", "sings")])
    assert tags_of(train, names) == [["B-per", "O"]]
    assert evals["dev"].labels[0].tolist() == [1]


def test_one_file_is_split_and_no_text_is_on_both_sides(tmp_path):
    content = "".join(f"w{n}\tB-a\nx\tO\n\n" * 2 for n in range(20))
    train, evals, _ = load_tagged(DataSettings(path=write(tmp_path / "a.conll", content)), TAGS)
    assert (len(train), list(evals), len(evals["test"])) == (36, ["test"], 4)
    assert not set(train.texts) & set(evals["test"].texts)


def test_texts_without_tags_are_for_a_teacher(tmp_path):
    """Lines of text are split at white space; a CoNLL file is read for its words."""
    lines = write(tmp_path / "lines.txt", "".join(f"Ann  sings {n}\r\n\n" for n in range(20)))
    data = DataSettings(path=lines, label_column="", labels=("O", "B-per"))
    train, evals, names = load_tagged(data, TAGS)
    assert len(train) + len(evals["test"]) == 20
    assert all(text[:2] == ("Ann", "sings") for text in train.texts)
    assert names == ("O", "B-per")
    assert np.isnan(train.labels).all()
    assert np.isnan(evals["test"].labels).all()
    for settings in ({"label_column": ""}, {"teacher": "m"}):
        data = folder(tmp_path, labels=("O", "B-per", "B-loc"), **settings)
        train, evals, _ = load_tagged(data, TAGS)
        assert train.texts == [("Ann", "Lee", "sings"), ("Oslo",)]
        assert np.isnan(train.labels).all()
        assert (evals["dev"].labels.dtype == object) == ("teacher" in settings)
    words = json.dumps({"text": "Ann sings"}) + "\n"
    data = folder(tmp_path, words, words, "jsonl", label_column="", labels=("O", "B-per"))
    assert load_tagged(data, TAGS)[0].texts == [("Ann", "sings")]


def test_subsets_are_as_small_as_asked_for(tmp_path):
    content = "".join(f"w{n}\tB-a\nx\tO\n\n" for n in range(20))
    data = folder(tmp_path, content, content, max_train_examples=5, max_eval_examples=3)
    train, evals, _ = load_tagged(data, TAGS)
    assert (len(train), len(evals["dev"])) == (5, 3)


def test_a_text_without_words_is_left_out_and_counted(tmp_path, caplog):
    row = json.dumps({"text": ["a", "b"], "label": ["O", "B-x"]}) + "\n"
    empty = json.dumps({"text": [], "label": []}) + "\n"
    train, _, _ = load_tagged(folder(tmp_path, empty + row + empty, row, "jsonl"), TAGS)
    assert train.texts == [("a", "b")]
    assert "train.jsonl: 2 texts without words were left out." in caplog.text


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        ("", {}, r"train\.conll holds no examples"),
        ("a\nb\n", {}, "has words and no tags: it needs a second column, or a teacher's answers"),
        ("a\tO\nb\tO\tO\n", {}, r"train\.conll, row 2: 3 columns, not 2 as in row 1"),
        ("a\tO\n\tO\n", {}, r"train\.conll, row 2: the word is empty"),
        ("a\tO\nb\tO\n", {}, r"train\.conll: every tag is 'O'; two or more are needed"),
        ("a\tO\nb\t\n", {}, r"train\.conll, row 2: the tag '' is no name"),
        ("a\tO\nb\tB-x\n", {}, r"dev\.conll, row 2: tag 'B-loc' is not one of O, B-x\."),
        (TRAIN, {"labels": ("O", "B-per", "B-loc")},
         r"train\.conll, row 2: tag 'I-per' is not one of O, B-per, B-loc\."),
        (TRAIN, {"label_column": ""}, r"token-classification needs labels, but train\.conll"),
        (TRAIN, {"text_columns": ("a", "b")}, "is one column of words, not a pair of texts"),
    ],
)  # fmt: skip
def test_a_broken_conll_file_names_the_place(tmp_path, train, settings, message):
    with pytest.raises(DataError, match=message):
        load_tagged(folder(tmp_path, train, **settings), TAGS)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": ["a", "b"], "label": ["O"]}, r"row 1: 2 words and 1 tags; there must be one for"),
        ({"text": ["a", " "], "label": ["O", "O"]}, r"row 1: word 1 \(from 0\) is empty"),
        ({"text": "a b", "label": ["O", "O"]}, "row 1: the words are no list"),
        ({"text": ["a"], "label": "O"}, "row 1: the tags are no list"),
        ({"text": ["a", 1], "label": ["O", "O"]}, "row 1: a text is not a string"),
        ({"text": ["a", "b"], "label": ["O", None]}, "row 1: the tag None is no name"),
        ({"tokens": ["a"], "label": ["O"]}, "row 1, has no column 'text'; it has: tokens, label"),
    ],
)
def test_a_broken_row_of_json_names_the_place(tmp_path, record, message):
    row = json.dumps(record) + "\n"
    with pytest.raises(DataError, match=rf"train\.jsonl, {message}"):
        load_tagged(folder(tmp_path, row, row, "jsonl"), TAGS)


def test_a_csv_file_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"train\.csv: tags are read from CoNLL columns .* not from"
    ):
        load_tagged(folder(tmp_path, suffix="csv"), TAGS)


# ---- the hub ------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    import datasets

    def use(tag_feature, **splits):
        features = datasets.Features(
            {"tokens": datasets.List(datasets.Value("string")),
             "ner_tags": datasets.List(tag_feature)}
        )  # fmt: skip

        def load_dataset(name, config=None, *, split):
            words, tags = zip(*splits[split], strict=True)
            rows = {"tokens": list(words), "ner_tags": list(tags)}
            return datasets.Dataset.from_dict(rows, features)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    use.datasets = datasets
    return use


def of_hub(**settings):
    columns = {"text_columns": ("tokens",), "label_column": "ner_tags"}
    return load_tagged(DataSettings(hub="x/y", **columns, **settings), TAGS)


def test_hub_tags_are_ids_with_names(hub, caplog):
    """In the data set's order, or, where another is wanted, by name."""
    feature = hub.datasets.ClassLabel(names=["O", "I-a", "B-a"])
    hub(feature, train=[(["x", "y"], [2, 1]), ([], [])], validation=[(["z"], [0])])
    with caplog.at_level(logging.WARNING):
        train, evals, names = of_hub()
    assert "x/y train: 1 texts without words were left out" in caplog.text
    assert (names, train.texts) == (("O", "I-a", "B-a"), [("x", "y")])
    assert train.labels[0].tolist() == [2, 1]
    assert evals["validation"].labels[0].tolist() == [0]
    train, _, names = of_hub(labels=("O", "B-a", "I-a"))
    assert train.labels[0].tolist() == [1, 2]
    train, evals, _ = of_hub(teacher="m", labels=("O", "B-a", "I-a"))
    assert np.isnan(train.labels).all()
    assert evals["validation"].labels[0].tolist() == [0]


def test_hub_tags_may_be_names(hub):
    hub(hub.datasets.Value("string"), train=[(["x", "y"], ["B-a", "O"])],
        validation=[(["z"], ["O"])])  # fmt: skip
    train, _, names = of_hub()
    assert (names, train.labels[0].tolist()) == (("O", "B-a"), [1, 0])


def test_a_hub_tag_outside_the_names_is_refused(hub):
    hub(
        hub.datasets.ClassLabel(names=["O", "B-a"]),
        train=[(["x"], [-1])],
        validation=[(["z"], [0])],
    )
    with pytest.raises(DataError, match=r"x/y train, row 0: tag '-1' is not one of O, B-a\."):
        of_hub()
