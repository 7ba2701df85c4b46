"""A teacher's dense answers in place of labels: what is learned, compared with, and refused."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.data.encoded import Encoded, collate
from latadj_jax.errors import SettingsError
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.task import Outcome
from latadj_jax.training import train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import labelled

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, standard_promotion):
    """A model that has learned from labels, densely, and is served with much removed."""
    folder = tmp_path_factory.mktemp("teacher")
    settings = tiny_run.settings(
        folder, num_layers=2, elimination={"dense": True}, train={"max_steps": 60}
    )
    results = train.train(settings)
    assert results.rows[0].metrics["test"]["accuracy"] > 0.9
    model, params = latadj_jax.from_pretrained(Path(settings.workdir) / "model")
    words = load_tokenizer(str(Path(settings.workdir) / "model"))
    latadj_jax.save_pretrained(folder / "served", model.replace(alpha=0.3), params, words)
    return str(folder / "served")


def texts_of(csv: str) -> list[str]:
    return [line.split(",")[0] for line in Path(csv).read_text().splitlines()[1:]]


def unlabelled(folder: Path, teacher: str, data_too: dict | None = None, **changes):
    """Settings of a run on texts alone, one in each line of a file."""
    file = folder / "all.txt"
    file.write_text("\n".join(texts_of(tiny_run.csv(folder))) + "\n")
    data = {"path": str(file), "label_column": "", **(data_too or {})}
    changes = {"model": {"source": teacher}, **changes}
    return tiny_run.settings(folder, num_layers=2, **{"data": data, **changes})


def taught(settings):
    return labelled.load(settings).teach()


def words(job) -> list[str]:
    """The texts that a job trains on."""
    ids = [example["input_ids"] for example in job.data.examples]
    return job.tokenizer.batch_decode(ids, skip_special_tokens=True)


def logits(source: str, texts: list[str]) -> np.ndarray:
    model, params = latadj_jax.from_pretrained(source)
    batch = load_tokenizer(source)(texts, padding=True, return_tensors="np")
    return np.asarray(latadj_jax.apply(model, params, dict(batch)).logits)


def test_what_is_learned_is_what_the_teacher_answers_densely(tmp_path, teacher):
    job = taught(unlabelled(tmp_path, teacher))
    assert job.model.config.labels == ("bad", "good")
    np.testing.assert_allclose(job.data.labels, logits(teacher, words(job)), atol=1e-5)


def test_a_teacher_reads_with_its_own_tokenizer(tmp_path, teacher):
    """One whose vocabulary is in another order, and its embedding with it, says the same."""
    model, params = latadj_jax.from_pretrained(teacher)
    vocab = load_tokenizer(teacher).get_vocab()
    special, others = tiny_run.SPECIAL, [w for w in vocab if w not in tiny_run.SPECIAL]
    order = [*special, *reversed(others)]
    (tmp_path / "vocab.txt").write_text("\n".join(order))
    rows = np.arange(model.config.vocab_size)
    rows[: len(order)] = [vocab[word] for word in order]
    table = params["embeddings"]["word"]["embedding"]
    params["embeddings"]["word"]["embedding"] = table[rows]
    latadj_jax.save_pretrained(
        tmp_path / "other", model, params, BertTokenizer(str(tmp_path / "vocab.txt"))
    )
    one, other = (
        taught(unlabelled(tmp_path, teacher, data_too={"teacher": name})).data.labels
        for name in (teacher, str(tmp_path / "other"))
    )
    np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_token_types_that_a_model_does_not_read_are_left_out(tmp_path, family):
    """A tokenizer of BERT's makes them, whatever the model."""
    model, words = tiny.make_model(family, "embedding"), tiny_run.tokenizer(tmp_path)
    assert "token_type_ids" in words("good")
    source = str(tmp_path / family)
    latadj_jax.save_pretrained(source, model, tiny.random_params(model), words)
    settings = unlabelled(
        tmp_path,
        source,
        model={"source": source, "task": "embedding"},
        eval={"metrics": ("fidelity",)},
    )
    job = taught(settings)
    assert all(set(example) == {"input_ids"} for example in job.data.examples)
    assert job.data.labels.shape == (96, 32)


def test_a_model_made_adjustable_without_labels(tmp_path, teacher):
    """It begins with the teacher, and agrees with it where much is removed; again in evaluation."""
    wide = {"alpha": 0.5, "distill": 0.5}
    settings = unlabelled(
        tmp_path, teacher, elimination=wide, train={"max_steps": 40}, eval={"alphas": (0.5,)}
    )  # fmt: skip
    results = train.train(settings)
    dense, fast = results.rows
    assert dense.metrics["test"]["accuracy"] == 1.0
    assert fast.metrics["test"]["accuracy"] > 0.9
    assert "texts as" in (Path(settings.workdir) / "report.md").read_text()
    again = evaluate_run(Path(settings.workdir), (0.5,))
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows]


def test_evaluation_reads_labels_where_there_is_a_column(tmp_path, teacher):
    """Those of training are not read; one single file must have the column, a train file not."""
    csv = tiny_run.csv(tmp_path)
    one = taught(tiny_run.settings(tmp_path, data={"path": csv, "teacher": teacher}))
    assert one.data.labels.shape == (96, 2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").write_text("text\n" + "\n".join(texts_of(csv)) + "\n")
    swapped = Path(csv).read_text().replace(",good", ",x").replace(",bad", ",good")
    (folder / "dev.csv").write_text(swapped.replace(",x", ",bad"))
    data = {"path": str(folder), "train_file": "train.csv", "eval_files": ("dev.csv",)}
    settings = tiny_run.settings(tmp_path, data={**data, "teacher": teacher}, eval={"alphas": ()})
    job = taught(settings)
    assert job.data.labels.shape == (120, 2)
    dense = job.evaluate(*latadj_jax.from_pretrained(teacher)).rows[0]
    assert dense.metrics["dev"]["accuracy"] < 0.1  # by labels that say the opposite


def test_a_regression_learns_values(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    model = tiny.make_model(task="regression", num_hidden_layers=2)
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(source / "model", model, params, tiny_run.tokenizer(source))
    name = str(source / "model")
    chosen = {"source": name, "task": "regression"}
    settings = unlabelled(tmp_path, name, model=chosen, eval={"metrics": ("pearson",)})
    job = taught(settings)
    np.testing.assert_allclose(job.data.labels, logits(name, words(job))[:, 0], atol=1e-5)


def test_a_teacher_s_logits_are_targets():
    """The loss is the KL divergence, also in a batch that is filled up."""
    rng = np.random.default_rng(0)
    student, taught = rng.normal(-3, size=(2, 4, 40)).astype(np.float32)
    examples = [{"input_ids": np.arange(1, 5, dtype=np.int32)}] * 4
    batch = collate(Encoded(examples, taught), np.arange(3), 8, 4)
    np.testing.assert_array_equal(batch["labels"], taught[[0, 1, 2, 0]])
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (batch["labels"], student))
    expected = ((p * np.log(p / q)).sum(-1) * [1, 1, 1, 0]).sum()
    outcome = Outcome(*map(jnp.asarray, (student, batch["labels"], batch["weights"])))
    found = CLASSIFICATION.total_loss(outcome)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_on_a_mesh_it_teaches_the_same(tmp_path, teacher, monkeypatch):
    one = taught(unlabelled(tmp_path, teacher)).data.labels
    found, fine_tune = [], train.fine_tune

    def seen(model, job, settings, workdir):
        found.append(job.data.labels)
        return fine_tune(model, job, settings, workdir)

    monkeypatch.setattr(train, "fine_tune", seen)
    sizes = {"data": 2, "fsdp": 2, "tensor": 2}
    steps = {"max_steps": 2, "accumulate": 2, "checkpoint_every": 1, "evaluate_every": 1}
    train.train(unlabelled(tmp_path, teacher, mesh=sizes, train=steps))
    np.testing.assert_allclose(found[0], one, atol=1e-5)


def test_a_broken_teacher_says_so(tmp_path, teacher):
    model, params = latadj_jax.from_pretrained(teacher)
    params["classifier"]["bias"] = params["classifier"]["bias"] * np.float32(np.nan)
    latadj_jax.save_pretrained(tmp_path / "broken", model, params, load_tokenizer(teacher))
    data = {"teacher": str(tmp_path / "broken")}
    with pytest.raises(ValueError, match=r"broken' answers \[nan, nan\] to example 0"):
        taught(unlabelled(tmp_path, teacher, data_too=data))


def test_classes_without_names_take_those_that_are_asked_for(tmp_path, teacher):
    model, params = latadj_jax.from_pretrained(teacher)
    unnamed = model.replace(config=model.config.replace(labels=("LABEL_0", "LABEL_1")))
    latadj_jax.save_pretrained(tmp_path / "unnamed", unnamed, params, load_tokenizer(teacher))
    data = {"teacher": str(tmp_path / "unnamed"), "path": tiny_run.csv(tmp_path)}
    settings = tiny_run.settings(tmp_path, data={**data, "labels": ("bad", "good")})
    assert labelled.load(settings).model.config.labels == ("bad", "good")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"teacher": "swapped"}, r"source has the classes \('bad', 'good'\), the teacher \('good'"),
        ({"labels": ("good", "bad")}, r"labels is \('good', 'bad'\), but the teacher has"),
        ({"max_length": 200}, "max_length is 200, the teacher has 40 positions"),
        (
            {"label_column": "", "teacher": ""},
            "is a model for features, not for classification, and",
        ),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, teacher, data, sentence):
    data, changes = {"teacher": teacher, **data}, {}
    if data["teacher"] == "swapped":
        model, params = latadj_jax.from_pretrained(teacher)
        model = model.replace(config=model.config.replace(labels=("good", "bad")))
        latadj_jax.save_pretrained(tmp_path / "swapped", model, params, load_tokenizer(teacher))
        data["teacher"], changes = str(tmp_path / "swapped"), {"model": {"source": teacher}}
    with pytest.raises(SettingsError, match=sentence):
        labelled.load(tiny_run.settings(tmp_path, data=data, **changes))


def test_a_run_does_not_overwrite_its_teacher(tmp_path, teacher):
    settings = unlabelled(tmp_path, teacher, workdir=str(tmp_path / "runs"))
    model, params = latadj_jax.from_pretrained(teacher)
    latadj_jax.save_pretrained(tmp_path / "runs" / "model", model, params, load_tokenizer(teacher))
    data = dataclasses.replace(settings.data, teacher=str(tmp_path / "runs" / "model"))
    with pytest.raises(SettingsError, match="would be overwritten by the run"):
        labelled.load(dataclasses.replace(settings, data=data))


def test_a_language_model_has_no_teacher(tmp_path):
    changes = {
        "model": {"task": "lm"},
        "data": {"teacher": "m"},
        "eval": {"metrics": ("perplexity",)},
    }
    with pytest.raises(SettingsError, match=r"data\.teacher must be '' for a model of task lm"):
        tiny_run.settings(tmp_path, **changes)
