"""A run on words with tags: from a CoNLL file to a report, or from a teacher."""

import logging
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.data.encoded import collate
from latadj_jax.errors import MissingPackageError, SettingsError
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.tags import TAGS
from latadj_jax.training import train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import labelled

pytestmark = pytest.mark.usefixtures("standard_promotion")

METRICS = ("f1", "precision", "recall", "accuracy")


def conll(folder: Path, number: int = 80) -> str:
    """Texts of 4 to 17 words: "good" and "word0" after it are an x, "bad" is a y."""
    rng = random.Random(0)
    tags = {"good": "B-x", "word0": "I-x", "bad": "B-y"}
    lines = []
    for n in range(number):
        words = rng.sample(tiny_run.WORDS[1:], rng.randint(1, 14))
        words.insert(rng.randint(0, len(words)), "bad")
        place = rng.randint(0, len(words))
        words[place:place] = ["good", "word0"]
        lines += [f"{word}\t{tags.get(word, 'O')}" for word in words]
        lines.append("" if n % 2 else "\t")
    file = folder / "all.conll"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def settings(folder: Path, **changes):
    base = {
        "model": {"task": TAGS.name, "source": tiny_run.source(folder, 1), "dropout": 0.0},
        "data": {"path": conll(folder), "max_length": 20, "buckets": (20,)},
        "elimination": {"alpha": 0.8, "strategy": "merge", "calibration_examples": 8},
        "train": {"max_steps": 60, "batch_size": 16, "learning_rate": 1e-2, "log_every": 30},
        "eval": {"alphas": (0.8, 0.5), "metrics": METRICS},
    }
    merged = {key: {**value, **changes.pop(key, {})} for key, value in base.items()}
    return tiny_run.settings(folder, 1, **merged, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory, standard_promotion):
    chosen = settings(tmp_path_factory.mktemp("tags"))
    return chosen, train.train(chosen)


def test_a_run_learns_tags_from_a_conll_file(run):
    """At two alphas, merged tokens too, and again. Fails where a tag is of another word."""
    chosen, results = run
    dense, slow, fast = results.rows
    assert [row.alpha for row in results.rows] == [None, 0.8, 0.5]
    assert list(dense.metrics["test"]) == list(METRICS)
    assert slow.metrics["test"]["f1"] > 0.9
    assert dense.metrics["test"]["accuracy"] > 0.95
    assert fast.metrics["test"]["f1"] > 0.5
    assert fast.expected_speedup > slow.expected_speedup > 1
    model, _ = latadj_jax.from_pretrained(Path(chosen.workdir) / "model")
    assert (model.task, model.config.labels) == (TAGS.name, ("O", "B-x", "B-y", "I-x"))
    again = evaluate_run(Path(chosen.workdir), (0.8,))
    assert [row.metrics for row in again.rows] == [dense.metrics, slow.metrics]
    assert "| 0.8 |" in (Path(chosen.workdir) / "report.md").read_text()


def test_the_trained_model_tags_texts(run):
    folder = Path(run[0].workdir) / "model"
    tokenizer = load_tokenizer(str(folder))
    engine = latadj_jax.Engine(
        *from_pretrained(folder), tokenizer, buckets=(20,), batch_sizes=(1,)
    ).warmup(repeats=1)
    text = "word3 word1 good word0 word2 bad word5 word9"
    (found,) = engine.tag([text])
    assert [(e["entity_group"], text[e["start"] : e["end"]]) for e in found] == [
        ("x", "good word0"),
        ("y", "bad"),
    ]


def test_words_that_are_cut_count_as_missed(run, tmp_path):
    """Against the same counts by hand: the metrics of all words, not of those that were read."""
    chosen, _ = run
    data = {"path": conll(tmp_path), "max_length": 8, "buckets": (8,), "truncate": True}
    cut = settings(tmp_path, data=data)
    model, params = from_pretrained(Path(chosen.workdir) / "model")
    tokenizer = load_tokenizer(str(Path(chosen.workdir) / "model"))
    evaluate = labelled.evaluator(cut, model, tokenizer)
    dense = evaluate(model, params, alphas=()).rows[0].metrics["test"]
    examples = labelled.reader_of(TAGS).load(cut.data, TAGS)[1]["test"]
    words = sum(map(len, examples.labels))
    behind = sum(tag != 0 for tags in examples.labels for tag in tags[6:])
    assert behind > 3
    assert 0.3 < dense["recall"] < dense["precision"]
    # Where all that is read is right, the wrong words are those with a tag behind the cut.
    assert dense["accuracy"] == pytest.approx(1 - behind / words, abs=0.05)


def test_a_loss_is_of_the_first_tokens_of_words_alone():
    """Against NumPy: no special token, continued word or padding, nothing that fills a batch."""
    rng = np.random.default_rng(0)
    logits_BTC = rng.normal(size=(2, 4, 3)).astype(np.float32)
    labels_BT = np.array([[-1, 2, -1, 0], [1, 1, -1, -1]], np.int32)
    mask_BT = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)
    batch = {"labels": jnp.asarray(labels_BT), "attention_mask": jnp.asarray(mask_BT),
             "weights": jnp.array([1.0, 0.5])}  # fmt: skip

    class Passes:
        def whole(self, batch, plan, restore=False):
            return SimpleNamespace(logits=jnp.asarray(logits_BTC))

    logs = logits_BTC - np.log(np.exp(logits_BTC).sum(axis=-1, keepdims=True))
    expected = -(logs[0, 1, 2] + logs[0, 3, 0] + 0.5 * logs[1, 0, 1])
    found = TAGS.total_loss(TAGS.outcome(Passes(), batch, None))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(TAGS.weight(batch, None)) == 2.5
    taught = {**batch, "labels": jnp.asarray(logits_BTC)}
    assert float(TAGS.weight(taught, None)) == 4.5
    assert float(TAGS.total_loss(TAGS.outcome(Passes(), taught, None))) == pytest.approx(
        0, abs=1e-6
    )


# ---- a teacher ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(run):
    return str(Path(run[0].workdir) / "model")


def untagged(folder: Path, teacher: str, **changes):
    """A run on lines of text that nobody tagged."""
    rng = random.Random(1)
    lines = (" ".join(rng.sample([*tiny_run.WORDS, "good", "bad"], 9)) for _ in range(60))
    file = folder / "lines.txt"
    file.write_text("\n".join(lines) + "\n")
    data = {"path": str(file), "label_column": "", **changes.pop("data", {})}
    return settings(folder, data=data, **{"model": {"source": teacher}, **changes})


def test_a_teacher_tags_what_nobody_did(tmp_path, teacher):
    """What is learned are its logits of each token; what is measured is how far one agrees."""
    chosen = untagged(tmp_path, teacher, train={"max_steps": 10, "learning_rate": 1e-4})
    job = labelled.load(chosen).teach()
    assert job.model.config.labels == ("O", "B-x", "B-y", "I-x")
    assert (job.data.labels.shape, job.data.labels_of) == ((48, 20, 4), "token")
    model, params = from_pretrained(teacher)
    batch = collate(job.data, np.arange(3), 20, 3)
    inputs = {key: batch[key] for key in ("input_ids", "token_type_ids", "attention_mask")}
    logits = np.asarray(latadj_jax.apply(model, params, inputs).logits)
    there = inputs["attention_mask"]
    np.testing.assert_allclose(batch["labels"][there], logits[there], atol=1e-5)
    np.testing.assert_array_equal(batch["labels"][~there], 0)
    results = train.train(chosen)
    assert results.rows[0].metrics["test"]["accuracy"] > 0.99
    assert evaluate_run(Path(chosen.workdir), (0.8,)).rows[0].metrics == results.rows[0].metrics


def test_a_teacher_with_other_tokens_is_refused(tmp_path, teacher):
    """Its answers are for each token, and would be another token's."""
    model, params = from_pretrained(teacher)
    words = [*tiny_run.SPECIAL, "bad", "good", *tiny_run.WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    other = BertTokenizer(str(tmp_path / "vocab.txt"))
    latadj_jax.save_pretrained(tmp_path / "other", model, params, other)
    chosen = untagged(tmp_path, teacher, data={"teacher": str(tmp_path / "other")})
    with pytest.raises(
        SettingsError, match="answers for each token, and its tokenizer makes others"
    ):
        labelled.load(chosen).teach()


# ---- what is refused ----------------------------------------------------------------------------


def test_bad_input_is_one_sentence_before_anything_is_trained(tmp_path, monkeypatch):
    with pytest.raises(
        SettingsError, match=r"eval\.metrics of a token-classification must be one of f"
    ):
        settings(tmp_path, eval={"metrics": ("pearson",)})
    with pytest.raises(SettingsError, match=r"elimination\.removed_as must be one of left, joined"):
        settings(tmp_path, elimination={"removed_as": "gone"})
    joined = labelled.load(settings(tmp_path, elimination={"removed_as": "joined"}))
    assert joined.model.removed_as == "joined"
    with pytest.raises(ValueError, match=r"texts are longer than config\.data\.max_length"):
        labelled.load(settings(tmp_path, data={"max_length": 8, "buckets": (8,)}))
    (tmp_path / "none.conll").write_text("a\nb\n")
    with pytest.raises(ValueError, match="has words and no tags"):
        labelled.load(settings(tmp_path, data={"path": str(tmp_path / "none.conll")}))
    monkeypatch.setitem(sys.modules, "seqeval", None)
    with pytest.raises(MissingPackageError, match="this needs seqeval, which is not installed"):
        labelled.load(settings(tmp_path))


def test_what_is_cut_is_said_once_for_each_part(tmp_path, caplog):
    data = {"max_length": 8, "buckets": (8,), "truncate": True}
    with caplog.at_level(logging.WARNING):
        labelled.load(settings(tmp_path, data=data))
    said = [record.getMessage() for record in caplog.records if "are cut" in record.getMessage()]
    assert len(said) == 2  # of training and of evaluation
