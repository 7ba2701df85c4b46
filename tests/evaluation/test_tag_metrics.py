"""Metrics of tags, against counts by hand."""

import numpy as np
import pytest

from latadj_jax.evaluation.tags import METRICS, tag_metrics, tags_of_words
from latadj_jax.tasks.tags import TAGS

NAMES = ("O", "B-per", "I-per", "B-loc")


def test_an_entity_counts_by_its_type_and_all_of_its_words():
    """Two entities, three found, one of them right; three of five words."""
    labels = [["B-per", "I-per", "O", "B-loc"], ["O"]]
    predictions = [["B-per", "O", "O", "B-loc"], ["B-per"]]
    found = tag_metrics(("f1", "precision", "recall", "accuracy"), labels, predictions)
    assert list(found) == ["f1", "precision", "recall", "accuracy"]
    assert found == pytest.approx({"f1": 0.4, "precision": 1 / 3, "recall": 0.5, "accuracy": 0.6})


def test_where_there_is_nothing_the_metrics_are_0():
    """And no warning, which the tests take for an error."""
    for labels, predictions in ((["O"], ["O"]), (["B-per"], ["O"]), (["O"], ["B-per"])):
        found = tag_metrics(("f1", "precision", "recall"), [labels], [predictions])
        assert set(found.values()) == {0.0}


def test_a_word_has_the_tag_of_its_first_token_and_without_one_none():
    ids_NT = np.array([[0, 1, 3, 2, 0], [0, 3, 1, 1, 1]])
    starts = [np.array([1, 3, -1]), np.array([1])]
    assert tags_of_words(ids_NT, starts, NAMES) == [["B-per", "I-per", "O"], ["B-loc"]]


def test_tags_that_mark_no_entities_have_an_accuracy_alone():
    labels = [["NOUN", "VERB"]]
    assert tag_metrics(("accuracy",), labels, labels) == {"accuracy": 1.0}
    with pytest.raises(
        ValueError, match=r"f1 is of entities, whose tags are O or like B-PER .* 'NOU"
    ):
        tag_metrics(("accuracy", "f1"), labels, labels)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(
        ValueError, match="'bleu' is no metric of tags; there are: f1, precision, rec"
    ):
        tag_metrics(("bleu",), [["O"]], [["O"]])
    with pytest.raises(ValueError, match="at least one word; there is none"):
        tag_metrics(("f1",), [[]], [[]])
    assert tuple(METRICS) == TAGS.metrics
