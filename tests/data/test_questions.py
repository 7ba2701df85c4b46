"""Questions with answers in texts: SQuAD's files, JSON lines, the hub; and tokens of answers."""

import json
import logging

import numpy as np
import pytest
import tiny_run

from latadj_jax.data.encoded import collate
from latadj_jax.data.questions import Answer, encode_questions, load_questions
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.text_files import json_records
from latadj_jax.errors import DataError
from latadj_jax.tasks.answers import ANSWERS

COLUMNS = {"text_columns": ("question", "context"), "label_column": "answers"}
CONTEXT = "word1 good word2 bad word3 good word4"


def qa(number, answers, question="word5 ?", **more) -> dict:
    answers = [{"text": text, "answer_start": at} for text, at in answers]
    return {"id": f"q{number}", "question": question, "answers": answers, **more}


def squad(path, *paragraphs) -> None:
    """A file of (context, questions) each."""
    paragraphs = [{"context": context, "qas": qas} for context, qas in paragraphs]
    whole = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(whole))


def load(folder, **changes):
    data = {"path": str(folder), "train_file": "train.json", "eval_files": ("dev.json",)}
    return load_questions(DataSettings(**{**data, **COLUMNS, **changes}), ANSWERS)


@pytest.fixture
def folder(tmp_path):
    squad(
        tmp_path / "train.json",
        (CONTEXT, [qa(1, [("good", 6)]), qa(2, [("bad", 17), ("bad word3", 17)])]),
        ("word9", [qa(3, [], is_impossible=True)]),
    )
    squad(tmp_path / "dev.json", (CONTEXT, [qa(4, [("word4", 32)])]))
    return tmp_path


def test_squad_s_layout_becomes_questions_with_all_their_answers(folder):
    train, evals, names = load(folder)
    assert train.texts == [("word5 ?", CONTEXT)] * 2 + [("word5 ?", "word9")]
    assert [*train.labels] == [
        (Answer("good", 6),),
        (Answer("bad", 17), Answer("bad word3", 17)),
        (),
    ]
    assert [*evals["dev"].labels] == [(Answer("word4", 32),)]
    assert names == ()


def test_what_is_impossible_has_no_answer_whatever_is_listed(tmp_path):
    """Version 2 lists plausible answers of such questions."""
    squad(tmp_path / "a.json", (CONTEXT, [qa(1, [("good", 6)], is_impossible=True)]))
    ((row, record),) = json_records("a.json", (tmp_path / "a.json").read_text())
    assert (row, record["id"], record["answers"]) == ("q1", "q1", [])


@pytest.mark.parametrize("indent", [None, 1])
def test_json_lines_and_the_hub_s_columns_say_the_same(tmp_path, indent):
    """Answers as a list of objects, or as an object of lists; one array of objects, too."""
    one = {"question": "word5 ?", "context": CONTEXT}
    rows = [
        {**one, "answers": [{"text": "good", "answer_start": 6}]},
        {**one, "answers": {"text": ["good", "bad"], "answer_start": [6, 17]}},
    ]
    text = json.dumps(rows, indent=1) if indent else "\n".join(map(json.dumps, rows))
    for name in ("train.json", "dev.json"):
        (tmp_path / name).write_text(text)
    train, _, _ = load(tmp_path)
    assert [*train.labels] == [(Answer("good", 6),), (Answer("good", 6), Answer("bad", 17))]


def test_the_hub_s_columns(monkeypatch):
    import datasets

    answers = {"text": ["good"], "answer_start": [6]}
    rows = {"id": ["x"], "question": ["word5 ?"], "context": [CONTEXT], "answers": [answers]}
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config, split: datasets.Dataset.from_dict(rows)
    )
    train, evals, _ = load_questions(DataSettings(hub="rajpurkar/squad", **COLUMNS), ANSWERS)
    assert train.texts == [("word5 ?", CONTEXT)]
    assert [*evals["validation"].labels] == [(Answer("good", 6),)]


def test_answers_that_are_not_at_their_place_are_counted_and_named(tmp_path, caplog):
    """The nearest place is taken; a question to train on without any is left out, one of the
    evaluation stays: its answers are only compared."""
    moved, lost = qa(1, [("good", 30)]), qa(2, [("nowhere", 3)])
    half = qa(3, [("nowhere", 3), ("bad", 17)])
    for name in ("train.json", "dev.json"):
        squad(tmp_path / name, (CONTEXT, [moved, lost, half]))
    with caplog.at_level(logging.WARNING):
        train, evals, _ = load(tmp_path)
    nowhere = Answer("nowhere", -1)
    assert [*train.labels] == [(Answer("good", 27),), (nowhere, Answer("bad", 17))]
    assert [*evals["dev"].labels][1] == (nowhere,)
    first, second, *_ = [record.message for record in caplog.records]
    assert first.startswith(
        "train.json: 1 answers are not at their place in their context, that of"
    )
    assert "q1 the first" in first
    assert second.startswith("train.json: 2 answers occur nowhere in their context, that of q2 the")
    assert "1 questions with no other answer are not trained on" in second


def test_of_one_file_whole_contexts_are_held_out(tmp_path):
    contexts = [f"word{n} good word{n}" for n in range(10)]
    several = [
        (c, [qa(f"{n}-{k}", [("good", 6)]) for k in range(3)]) for n, c in enumerate(contexts)
    ]
    squad(tmp_path / "all.json", *several)
    train, evals, _ = load(tmp_path / "all.json", eval_fraction=0.2)
    seen = [{context for _, context in part.texts} for part in (train, evals["test"])]
    assert (len(train), len(evals["test"])) == (24, 6)
    assert not seen[0] & seen[1]


def test_without_a_column_of_answers_nobody_labelled(folder):
    train, evals, _ = load(folder, label_column="")
    assert [*train.labels] == [None] * 3
    assert [*evals["dev"].labels] == [None]
    train, evals, _ = load(folder, teacher="m")
    assert [*train.labels] == [None] * 3
    assert [*evals["dev"].labels] == [(Answer("word4", 32),)]


@pytest.mark.parametrize(
    ("paragraph", "message"),
    [
        ({"qas": []}, "a paragraph of article 't' has no|holds no examples"),
        ({"context": "a"}, "a paragraph of article 't' has no list 'qas'"),
        ({"context": "a", "qas": [{"id": "q"}]}, "a question has no 'id' or no 'question'"),
        ({"qas": [qa(1, [])]}, "has no 'context'"),
        ({"context": 3, "qas": [qa(1, [])]}, "row q1: a text is not a string"),
        ({"context": " ", "qas": [qa(1, [])]}, "row q1: the context is empty"),
        ({"context": "a", "qas": [qa(1, [], question=" ")]}, "row q1: the question is empty"),
        ({"context": "a", "qas": [qa(1, [("a", "0")])]}, "row q1: answer_start '0' is not a num"),
        ({"context": "a", "qas": [qa(1, [(" ", 0)])]}, "row q1: the answer ' ' is no text"),
        (
            {"context": "a", "qas": [{**qa(1, []), "answers": "a"}]},
            "row q1: answers must be a list",
        ),
        (
            {
                "context": "a",
                "qas": [{**qa(1, []), "answers": {"text": ["a"], "answer_start": []}}],
            },
            "row q1: 1 answers begin at 0 places",
        ),
        (
            {"context": "a", "qas": [{"id": "q1", "question": "?"}]},
            "row q1, has no column 'answers'",
        ),
        ({"context": "a", "qas": [qa(1, [("b", 0)])]}, "no answer occurs in its context"),
    ],
)
def test_a_broken_file_is_one_sentence(folder, paragraph, message):
    whole = {"data": [{"title": "t", "paragraphs": [paragraph]}]}
    (folder / "train.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=message):
        load(folder)


def test_one_column_of_texts_is_refused(folder):
    with pytest.raises(DataError, match=r"two columns; config\.data\.text_columns is \('text',\)"):
        load(folder, text_columns=("text",))


# ---- tokens ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tiny_run.tokenizer(tmp_path_factory.mktemp("tokenizer"))


def encoded(words, folder, **changes):
    data = DataSettings(path="x", **{"max_length": 12, "stride": 1, **changes})
    return encode_questions(words, load(folder)[0], data)


def test_labels_are_the_first_and_last_token_of_the_first_answer_in_each_window(words, folder):
    """CLS where a window does not have all of it. The question is "word5 ?", [UNK] its second."""
    found = encoded(words, folder)
    # Of 12 tokens 5 are CLS, the question and two SEP, so that 7 hold all of the context.
    assert found.labels.tolist() == [[5, 5], [7, 7], [0, 0]]
    halved = encoded(words, folder, max_length=9)
    parts = [words.decode(e["input_ids"][4:-1]) for e in halved.examples[:2]]
    assert parts == ["word1 good word2 bad", "bad word3 good word4"]
    assert halved.labels.tolist() == [[5, 5], [0, 0], [7, 7], [4, 4], [0, 0]]
    assert halved.windows.questions.tolist() == [0, 0, 1, 1, 2]


def test_an_answer_inside_of_a_word_has_the_whole_word(words, tmp_path):
    for name in ("train.json", "dev.json"):
        squad(tmp_path / name, ("word1 good word2", [qa(1, [("oo", 7)]), qa(2, [("d w", 9)])]))
    assert encoded(words, tmp_path).labels.tolist() == [[5, 5], [5, 6]]


def test_batches_hold_the_spans_and_the_marks_of_the_question(words, folder):
    found = encoded(words, folder)
    batch = collate(found, np.array([1]), bucket=16, batch_size=2)
    assert batch["labels"].tolist() == [[7, 7]] * 2
    assert batch["weights"].tolist() == [1, 0]
    assert batch["protected"][0].tolist() == [0, 1, 1] + [0] * 13


def test_a_question_that_leaves_no_room_is_named(words, folder):
    with pytest.raises(DataError, match=r"the question 'word5 \?' has 5 tokens .* window of 5"):
        encoded(words, folder, max_length=5)
