"""A teacher's dense answers in place of labels: what is learned, compared with, and refused."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax import labelled, tasks, training
from latadj_jax.batch import collate
from latadj_jax.jobs import evaluate_run
from latadj_jax.rules import SettingsError
from latadj_jax.text import load_tokenizer

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, standard_promotion):
    """A model that has learned from labels, densely, and is served with much removed."""
    folder = tmp_path_factory.mktemp("teacher")
    settings = tiny_run.settings(
        folder, num_layers=2, elimination={"dense": True}, train={"max_steps": 60}
    )
    results = training.train(settings)
    assert results["rows"][0]["metrics"]["test"]["accuracy"] > 0.9
    model, params = latadj_jax.from_pretrained(Path(settings.workdir) / "model")
    words = load_tokenizer(str(Path(settings.workdir) / "model"))
    latadj_jax.save_pretrained(folder / "served", model.replace(alpha=0.3), params, words)
    return str(folder / "served")


def texts_of(csv: str) -> list[str]:
    return [line.split(",")[0] for line in Path(csv).read_text().splitlines()[1:]]


def unlabelled(folder: Path, teacher: str, **changes):
    """Settings of a run on texts alone, one in each line of a file."""
    file = folder / "all.txt"
    file.write_text("\n".join(texts_of(tiny_run.csv(folder))) + "\n")
    data = {"path": str(file), "label_column": ""}
    changes = {"model": {"source": teacher}, **changes}
    return tiny_run.settings(folder, num_layers=2, **{"data": data, **changes})


def logits(source: str, texts: list[str]) -> np.ndarray:
    model, params = latadj_jax.from_pretrained(source)
    batch = load_tokenizer(source)(texts, padding=True, return_tensors="np")
    return np.asarray(latadj_jax.apply(model, params, dict(batch)).logits)


def test_what_is_learned_is_what_the_teacher_answers_densely(tmp_path, teacher):
    job = labelled.load(unlabelled(tmp_path, teacher))
    assert job.model.config.labels == ("bad", "good")
    texts = job.tokenizer.batch_decode(
        [example["input_ids"] for example in job.data.examples], skip_special_tokens=True
    )
    np.testing.assert_allclose(job.data.labels, logits(teacher, texts), atol=1e-5)


def test_a_model_made_adjustable_without_labels(tmp_path, teacher):
    """It begins with the teacher, and agrees with it where much is removed; again in evaluation."""
    wide = {"alpha": 0.5, "distill": 0.5}
    settings = unlabelled(
        tmp_path, teacher, elimination=wide, train={"max_steps": 40}, eval={"alphas": (0.5,)}
    )  # fmt: skip
    results = training.train(settings)
    dense, fast = results["rows"]
    assert dense["metrics"]["test"]["accuracy"] == 1.0
    assert fast["metrics"]["test"]["accuracy"] > 0.9
    assert "texts as" in (Path(settings.workdir) / "report.md").read_text()
    again = evaluate_run(Path(settings.workdir), (0.5,))
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in results["rows"]]


def test_evaluation_reads_labels_where_there_is_a_column(tmp_path, teacher):
    """Those of training are not read; one single file must have the column, a train file not."""
    csv = tiny_run.csv(tmp_path)
    one = labelled.load(tiny_run.settings(tmp_path, data={"path": csv, "teacher": teacher}))
    assert one.data.labels.shape == (96, 2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.csv").write_text("text\n" + "\n".join(texts_of(csv)) + "\n")
    swapped = Path(csv).read_text().replace(",good", ",x").replace(",bad", ",good")
    (folder / "dev.csv").write_text(swapped.replace(",x", ",bad"))
    data = {"path": str(folder), "train_file": "train.csv", "eval_files": ("dev.csv",)}
    settings = tiny_run.settings(tmp_path, data={**data, "teacher": teacher}, eval={"alphas": ()})
    job = labelled.load(settings)
    assert job.data.labels.shape == (120, 2)
    dense = job.evaluate(*latadj_jax.from_pretrained(teacher))["rows"][0]
    assert dense["metrics"]["dev"]["accuracy"] < 0.1  # by labels that say the opposite


def test_a_regression_learns_values(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    model = tiny.make_model(task="regression", num_hidden_layers=2)
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(source / "model", model, params, tiny_run.tokenizer(source))
    name = str(source / "model")
    chosen = {"source": name, "task": "regression"}
    settings = unlabelled(tmp_path, name, model=chosen, eval={"metrics": ("pearson",)})
    job = labelled.load(settings)
    texts = texts_of(tiny_run.csv(tmp_path))
    assert job.data.labels.shape == (96,)
    np.testing.assert_array_equal(
        np.isin(job.data.labels.round(3), logits(name, texts)[:, 0].round(3)), True
    )


def test_a_teacher_s_logits_are_targets():
    """The loss is the KL divergence, also in a batch that is filled up."""
    rng = np.random.default_rng(0)
    student, taught = rng.normal(size=(2, 4, 3)).astype(np.float32)
    examples = [{"input_ids": np.arange(1, 5, dtype=np.int32)}] * 4
    batch = collate(examples, taught, np.arange(3), 8, 4)
    np.testing.assert_array_equal(batch["labels"], taught[[0, 1, 2, 0]])
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (batch["labels"], student))
    expected = ((p * np.log(p / q)).sum(-1) * [1, 1, 1, 0]).sum()
    found = tasks.total_loss("classification", jnp.asarray(student), *map(
        jnp.asarray, (batch["labels"], batch["weights"])
    ))  # fmt: skip
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match=r"label .* of example 1 must be finite"):
        tasks.check_labels("classification", np.array([[0, 1], [0, np.nan]]), 2)


def test_on_a_mesh_it_teaches_the_same(tmp_path, teacher):
    one = labelled.load(unlabelled(tmp_path, teacher)).data.labels
    found = []
    with pytest.MonkeyPatch.context() as patch:
        load = labelled.load
        patch.setattr(labelled, "load", lambda s: found.append(load(s)) or found[0])
        sizes = {"data": 2, "fsdp": 2, "tensor": 2}
        training.train(unlabelled(tmp_path, teacher, mesh=sizes, train={"max_steps": 2}))
    np.testing.assert_allclose(found[0].data.labels, one, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"labels": ("good", "bad")}, r"labels is \('good', 'bad'\), but the teacher has"),
        ({"max_length": 200}, "max_length is 200, the teacher has 40 positions"),
        (
            {"label_column": "", "teacher": ""},
            "is a model for features, not for classification, and",
        ),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, teacher, data, sentence):
    data = {"teacher": teacher, **data}
    with pytest.raises(SettingsError, match=sentence):
        labelled.load(tiny_run.settings(tmp_path, data=data))


def test_a_language_model_has_no_teacher(tmp_path):
    changes = {
        "model": {"task": "lm"},
        "data": {"teacher": "m"},
        "eval": {"metrics": ("perplexity",)},
    }
    with pytest.raises(SettingsError, match=r"data\.teacher must be '' for a model of task lm"):
        tiny_run.settings(tmp_path, **changes)
