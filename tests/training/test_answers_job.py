"""A run on questions whose answers are spans: from a SQuAD file to a report, or from a teacher."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_run
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.data.encoded import collate
from latadj_jax.errors import SettingsError
from latadj_jax.model.inputs import check_inputs
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training import losses, train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import labelled

pytestmark = pytest.mark.usefixtures("standard_promotion")


def squad(folder: Path, contexts: int = 40) -> str:
    """Contexts whose answer is the word "good" or "bad", as the question says; two questions each.

    Those of every fourth context need two windows of 20 tokens.
    """
    rng = random.Random(0)
    paragraphs = []
    for n in range(contexts):
        words = rng.sample(tiny_run.WORDS, 18 if n % 4 == 0 else rng.randint(3, 9))
        for word in ("good", "bad"):
            words.insert(rng.randint(0, len(words)), word)
        context = " ".join(words)
        qas = [
            {"id": f"{n}-{word}", "question": word,
             "answers": [{"text": word, "answer_start": context.index(word)}]}
            for word in ("good", "bad")
        ]  # fmt: skip
        paragraphs.append({"context": context, "qas": qas})
    file = folder / "questions.json"
    file.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return str(file)


def settings(folder: Path, **changes):
    data = {
        "path": squad(folder), "text_columns": ("question", "context"), "label_column": "answers",
        "max_length": 20, "buckets": (20,), "stride": 4,
    }  # fmt: skip
    model = {"task": "question-answering", "source": tiny_run.source(folder, 1), "dropout": 0.0}
    base = {
        "model": model,
        "data": data,
        "elimination": {"alpha": 0.8, "strategy": "merge", "calibration_examples": 8},
        "train": {"max_steps": 120, "batch_size": 16, "learning_rate": 1e-2},
        "eval": {"alphas": (0.8, 0.6), "metrics": ("f1", "exact_match")},
    }
    for section, change in changes.items():
        base[section] = {**base.get(section, {}), **change}
    return tiny_run.settings(folder, num_layers=1, **base)


@pytest.fixture(scope="module")
def run(tmp_path_factory, standard_promotion):
    """A whole run: its settings and results."""
    trained = settings(tmp_path_factory.mktemp("run"))
    return trained, train.train(trained)


@pytest.fixture(scope="module")
def teacher(run):
    return str(Path(run[0].workdir) / "model")


def test_it_learns_to_answer_densely_and_at_two_alphas(run):
    trained, results = run
    assert [row.alpha for row in results.rows] == [None, 0.8, 0.6]
    for row, least in zip(results.rows, (0.9, 0.9, 0.6), strict=True):
        assert set(row.metrics["test"]) == {"f1", "exact_match"}
        assert row.metrics["test"]["f1"] > least
    assert "windows" in (Path(trained.workdir) / "report.md").read_text()


def test_a_finished_run_is_evaluated_again_with_the_same_scores(run):
    trained, results = run
    again = evaluate_run(Path(trained.workdir), (0.8,))
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows[:2]]


def test_the_engine_answers_with_what_was_trained(run, teacher):
    model, params = from_pretrained(teacher)
    engine = latadj_jax.Engine(model, params, load_tokenizer(teacher), buckets=(20,))
    engine.warmup(repeats=1)
    context = "word1 word2 bad word3 good word4"
    found = engine.answer(["good", "bad"], context)
    assert [(f["answer"], f["start"]) for f in found] == [("good", 22), ("bad", 12)]


def test_a_model_can_be_trained_with_its_question_protected(tmp_path):
    job = labelled.load(settings(tmp_path, elimination={"protected": 2}))
    assert (job.model.protected, job.model.plan(0.1, 20).floor) == (2, 2)
    batch = collate(job.data, np.arange(4), 20, 4)
    assert (batch["protected"].sum(axis=1) == 1).all()
    check_inputs(batch, job.model.input_ranges, 40)


# ---- a teacher ------------------------------------------------------------------------------


def test_without_answers_the_teacher_s_logits_are_learned(tmp_path, teacher):
    """And are what the faster passes are compared with: dense, it agrees with itself."""
    changes = {
        "data": {"label_column": ""},
        "model": {"source": teacher},
        "train": {"max_steps": 10, "learning_rate": 1e-4},
        "eval": {"alphas": (0.8,)},
    }
    taught = settings(tmp_path, **changes)
    job = labelled.load(taught).teach()
    assert job.data.labels_of == "token"
    assert job.data.labels.shape == (len(job.data.examples), 20, 2)
    model, params = from_pretrained(teacher)
    batch = collate(job.data, np.arange(8), 20, 8)
    dense = latadj_jax.apply(model, params, {k: v for k, v in batch.items()}).logits
    is_token = batch["attention_mask"][:, :, None]
    np.testing.assert_allclose(batch["labels"], np.where(is_token, dense, 0), atol=1e-4)
    plan = model.plan(None, 20)
    loss = model.record.total_loss(losses.outcome(model, params, batch, plan))
    assert abs(float(loss)) < 1e-4
    results = train.train(taught)
    assert results.rows[0].metrics["test"]["f1"] > 0.95
    assert "texts as" in (Path(taught.workdir) / "report.md").read_text()


def test_answers_are_compared_with_where_the_evaluation_has_some(tmp_path, teacher):
    taught = settings(tmp_path, data={"teacher": teacher}, model={"source": teacher})
    job = labelled.load(taught).teach()
    assert job.data.labels_of == "token"
    results = job.evaluate(*from_pretrained(teacher), alphas=(0.8,))
    assert results.rows[0].metrics["test"]["exact_match"] > 0.9


def test_a_teacher_whose_tokens_are_others_is_refused(tmp_path, teacher):
    model, params = from_pretrained(teacher)
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join([*tiny_run.SPECIAL, *tiny_run.WORDS, "good", "bad"]))
    latadj_jax.save_pretrained(tmp_path / "other", model, params, BertTokenizer(str(vocab)))
    taught = settings(tmp_path, data={"label_column": "", "teacher": str(tmp_path / "other")})
    with pytest.raises(SettingsError, match=r"other' answers for each token, and its tokenizer"):
        labelled.load(taught).teach()


# ---- what cannot work -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"stride": -1}}, r"config\.data\.stride must be 0 or greater"),
        (
            {"eval": {"metrics": ("accuracy",)}},
            r"eval\.metrics of a question-answering must be one",
        ),
        ({"elimination": {"protected": -1}}, r"elimination\.protected must be 0 or greater"),
        ({"data": {"label_column": "label"}}, r"no column 'label'; it has: id, title, question"),
        ({"data": {"text_columns": ("question",)}}, "a question and its context are two columns"),
        (
            {"data": {"max_length": 4, "buckets": ()}},
            "the question 'good' has 4 tokens with special",
        ),
        (
            {"data": {"max_length": 50, "buckets": ()}},
            "max_length is 50, the model has 40 positions",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        labelled.load(settings(tmp_path, **changes))


def test_spans_that_end_before_they_start_are_refused():
    record = tiny.make_model("bert", "question-answering").record
    record.check_labels(np.array([[0, 0], [3, 5]]), 2)
    for bad in ([3, 2], [-1, -1]):
        with pytest.raises(ValueError, match="the answer of example 1 goes from token"):
            record.check_labels(np.array([[0, 0], bad]), 2)
