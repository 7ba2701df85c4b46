"""Texts with several labels: of files and of the hub, as numbers, names and lists."""

import numpy as np
import pytest

from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import DataError
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.multi_label import MULTI_LABEL

NAMES = ("joy", "love", "fear")


def load(folder, train, dev="", task=MULTI_LABEL, name="tsv", **settings):
    header = "text\tlabel\n" if name == "tsv" else ""
    for part, content in (("train", train), ("dev", dev or train)):
        (folder / f"{part}.{name}").write_text(header + content)
    data = DataSettings(
        path=str(folder), train_file=f"train.{name}", eval_files=(f"dev.{name}",), **settings
    )
    return load_examples(data, task)


@pytest.mark.parametrize(
    ("rows", "name", "separator"),
    [
        ("a\t0,2\nb\t1\nc\t\n", "tsv", ","),  # numbers of a list; none holds
        ("a\tjoy, fear\nb\tlove\nc\t\n", "tsv", ","),
        ("a\tfear;joy\nb\tlove\nc\t \n", "tsv", ";"),
        ('a\t["fear", 0]\nb\t["love"]\nc\t[]\n', "tsv", ","),
        ('{"text": "a", "label": ["joy", 2]}\n{"text": "b", "label": "love"}\n'
         '{"text": "c", "label": []}\n', "jsonl", ","),
        ('{"text": "a", "label": "0,2"}\n{"text": "b", "label": 1}\n'
         '{"text": "c", "label": null}\n', "jsonl", ","),
    ],
)  # fmt: skip
def test_each_label_of_a_text_is_a_one(tmp_path, rows, name, separator):
    train, evals, names = load(tmp_path, rows, name=name, labels=NAMES, label_separator=separator)
    assert names == NAMES
    for part in (train, evals["dev"]):
        assert part.labels.dtype == np.float32
        assert part.labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_names_are_those_of_the_training_data(tmp_path):
    train, _, names = load(tmp_path, "a\tjoy,fear\nb\tlove\nc\tfear\n")
    assert names == ("fear", "joy", "love")
    assert train.labels.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_a_file_that_is_split_holds_some_out(tmp_path):
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\n" + "".join(f"text {n}\t{n % 2},2\n" for n in range(20)))
    train, evals, _ = load_examples(DataSettings(path=str(file)), MULTI_LABEL)
    assert (len(train), len(evals["test"])) == (18, 2)
    assert train.labels.shape == (18, 3)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ("a\t0,3\n", NAMES, r"train\.tsv, row 2: label '3' is not one of joy \(0\), love \(1\)"),
        ("a\tjoy\nb\tjoy,hate\n", NAMES, "row 3: label 'hate' is not one of joy"),
        ("a\tjoy\nb\tjoy\n", (), r"train\.tsv: every label is 'joy'; two or more are needed"),
        ("a\t\nb\t\n", (), r"train\.tsv: every label is missing; two or more are needed"),
    ],
)
def test_a_label_that_is_none_is_named(tmp_path, rows, labels, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows, labels=labels)


def test_a_list_is_no_label_of_a_classification(tmp_path):
    rows = '{"text": "a", "label": ["joy"]}\n'
    with pytest.raises(DataError, match=r"label \['joy'\] is not one value; several are for task"):
        load(tmp_path, rows, task=CLASSIFICATION, name="jsonl", labels=NAMES)


@pytest.mark.parametrize(("wanted", "first"), [((), [1, 1, 0]), (NAMES[::-1], [0, 1, 1])])
def test_lists_of_a_hub_data_set(monkeypatch, wanted, first):
    """Classes have the names of the data set, or those that are wanted, in their order."""
    datasets = pytest.importorskip("datasets")
    kind = datasets.List(datasets.ClassLabel(names=list(NAMES)))
    features = datasets.Features({"text": datasets.Value("string"), "label": kind})
    rows = {"text": ["a", "b"], "label": [[0, 1], []]}
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_dict(rows, features)
    )
    train, _, names = load_examples(DataSettings(hub="x/y", labels=wanted), MULTI_LABEL)
    assert names == (wanted or NAMES)
    assert train.labels.tolist() == [first, [0, 0, 0]]
