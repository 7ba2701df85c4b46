"""Labelled texts of the Hugging Face hub: columns, names and ids of labels, and what fails."""

import dataclasses

import numpy as np
import pytest

from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import DataError
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.regression import REGRESSION


@pytest.fixture
def hub(monkeypatch):
    import datasets

    def use(label_feature, labels, **splits):
        features = datasets.Features({"text": datasets.Value("string"), "label": label_feature})

        def load_dataset(name, config=None, *, split):
            if split not in splits:
                raise ValueError(f'Unknown split "{split}".\nmore')
            rows = {"text": splits[split], "label": labels[: len(splits[split])]}
            return datasets.Dataset.from_dict(rows, features)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    use.datasets = datasets
    return use


def test_hub_labels_are_ids_even_where_their_names_are_numbers(hub):
    hub(hub.datasets.ClassLabel(names=["2", "1"]), [0, 1], train=["a", "b"], validation=["c"])
    train, evals, names = load_examples(DataSettings(hub="x/y"), CLASSIFICATION)
    assert names == ("2", "1")
    assert train.labels.tolist() == [0, 1]
    assert (evals["validation"].texts, evals["validation"].labels.tolist()) == ([("c",)], [0])


def test_a_hub_split_without_labels_says_so(hub):
    hub(hub.datasets.ClassLabel(names=["no", "yes"]), [-1], train=["a"], validation=["b"])
    with pytest.raises(DataError, match=r"x/y/z train, row 0: label -1 .* without labels hold -1"):
        load_examples(DataSettings(hub="x/y", hub_config="z"), CLASSIFICATION)


def test_hub_labels_follow_their_names_where_another_order_is_wanted(hub):
    hub(hub.datasets.ClassLabel(names=["good", "bad"]), [0, 1], train=["a", "b"], validation=["c"])
    for wanted in (("bad", "good"), ("BAD", "GOOD")):
        train, _, names = load_examples(DataSettings(hub="x/y", labels=wanted), CLASSIFICATION)
        assert (names, train.labels.tolist()) == (wanted, [1, 0])
    other = ("yes", "no")
    train, _, _ = load_examples(DataSettings(hub="x/y", labels=other), CLASSIFICATION)
    assert train.labels.tolist() == [0, 1]


def test_with_a_teacher_the_hub_s_training_labels_are_not_read(hub):
    hub(hub.datasets.ClassLabel(names=["no", "yes"]), [1, -1], train=["a", "b"], validation=["c"])
    data = DataSettings(hub="x/y", teacher="m", labels=("no", "yes"))
    train, evals, _ = load_examples(data, CLASSIFICATION)
    assert np.isnan(train.labels).all()
    assert evals["validation"].labels.tolist() == [1]
    _, evals, _ = load_examples(dataclasses.replace(data, label_column=""), CLASSIFICATION)
    assert np.isnan(evals["validation"].labels).all()


def test_a_hub_column_that_is_missing_is_named(hub):
    hub(hub.datasets.Value("float32"), [0.5], train=["a"])
    with pytest.raises(
        DataError, match=r"no column 'body'; it has: text, label\. Set config\.data\.t"
    ):
        load_examples(DataSettings(hub="x/y", text_columns=("body",)), CLASSIFICATION)


def test_a_hub_that_fails_is_one_sentence_with_the_way_out(hub):
    hub(hub.datasets.Value("float32"), [0.5], train=["a"])
    with pytest.raises(DataError) as caught:
        load_examples(DataSettings(hub="x/y"), REGRESSION)
    message = str(caught.value)
    assert "x/y validation could not be loaded" in message
    assert 'Unknown split "validation")' in message
    assert "--config.data.path" in message
    assert "\n" not in message
    assert caught.value.__suppress_context__
