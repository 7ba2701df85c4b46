"""A model of several labels, from Hugging Face's files to the lines that a command prints."""

import io
import json

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.tasks.multi_label import MULTI_LABEL, probabilities

LINES = "good word1 word2 word3\n\nbad word4 word5\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    model, params = tiny.make("bert", "multi-label", num_hidden_layers=1)
    latadj_jax.save_pretrained(folder / "m", model, params, tiny_run.tokenizer(folder))
    return folder / "m"


def test_it_is_hugging_faces_both_ways(folder, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    hf = transformers.AutoModelForSequenceClassification
    theirs = hf.from_pretrained(folder).eval()
    assert theirs.config.problem_type == "multi_label_classification"
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    assert model.task == "multi-label"
    batch = {"input_ids": tiny.example(12)["input_ids"][None]}
    with torch.no_grad():
        expected = theirs(torch.from_numpy(batch["input_ids"].astype(np.int64))).logits
    out = latadj_jax.apply(model, params, batch)
    np.testing.assert_allclose(out.logits, expected, rtol=0, atol=1e-4)


def test_every_label_that_holds_is_printed_the_likeliest_first(monkeypatch, capsys, folder):
    monkeypatch.setattr("sys.stdin", io.StringIO(LINES))
    main(["classify", str(folder), "--buckets", "8"])
    printed = capsys.readouterr().out.split("\n")[:-1]
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    numbers = []
    for line, answer in zip(LINES.split("\n"), printed, strict=False):
        expected = []
        if line:
            batch = dict(tokenizer(line, return_tensors="np"))
            found = probabilities(np.asarray(latadj_jax.apply(model, params, batch).logits[0]))
            order = [n for n in np.argsort(-found) if found[n] >= 0.5]
            expected = [f"{model.config.labels[n]}\t{found[n]:.4f}" for n in order]
            numbers.append(len(order))
        assert answer == "\t".join(expected)
    assert max(numbers) > 1  # else nothing was shown


def test_no_label_may_hold():
    answer = MULTI_LABEL.answer(("a", "b"), np.array([-1.0, -2.0]))
    assert answer.labels == answer.values == ()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), r"labels must be \[N, 3\], a number for each label; they are \[2, 2\]"),
        (np.array([[0, 1, 0], [0, 2, 0]]), r"of example 1 must be 0 or 1"),
        (np.array([0, 1]), r"labels must be \[N, 3\]"),
    ],
)
def test_labels_of_one_label_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        MULTI_LABEL.check_labels(labels, 3)


def test_another_problem_type_is_another_task(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert latadj_jax.from_pretrained(folder, "classification")[0].task == "classification"
