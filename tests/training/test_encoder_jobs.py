"""Whole runs on several labels, on rankings and on embeddings: trained, saved, evaluated again."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.families.pooling import Embedding, NormalizeStep
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.settings import from_config
from latadj_jax.training.train import train

pytestmark = pytest.mark.usefixtures("standard_promotion")


def several_labels(folder, rows=120) -> str:
    """Texts whose labels are which of two words they have: both, one or none."""
    rng, lines = random.Random(0), []
    for n in range(rows):
        has = [word for word, there in (("good", n % 2), ("bad", n // 2 % 2)) if there]
        words = [*rng.sample(tiny_run.WORDS, 6), *has]
        rng.shuffle(words)
        lines.append(json.dumps({"text": " ".join(words), "label": has}))
    file = folder / "texts.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def rankings(folder, queries=40) -> str:
    """Four candidates of each query, one of which is right: it holds the word "good"."""
    rng, lines = random.Random(0), []
    for n in range(queries):
        right = rng.randrange(4)
        for place in range(4):
            words = [*rng.sample(tiny_run.WORDS, 4), "good" if place == right else "bad"]
            lines.append(f"word{n % 40} word{n // 40}\t{' '.join(words)}\t{int(place == right)}")
    file = folder / "pairs.txt"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def likenesses(folder, rows=100) -> str:
    """Pairs that are alike where both have the same word of two."""
    rng, lines = random.Random(0), ["a,b,label"]
    for _ in range(rows):
        words = [rng.choice(("good", "bad")) for _ in range(2)]
        texts = [" ".join([*rng.sample(tiny_run.WORDS, 3), word]) for word in words]
        lines.append(f"{texts[0]},{texts[1]},{float(words[0] == words[1])}")
    file = folder / "alike.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


PLAIN = {"text_columns": ("text",), "eval_fraction": 0.2, "max_length": 24, "buckets": (24,)}
PAIRS = {**PLAIN, "local_header": False, "local_text_columns": ("0", "1"),
         "local_label_column": "2"}  # fmt: skip
RUNS = {
    "multi-label": (several_labels, PLAIN, ("f1_micro", "f1_macro", "exact_match"), 0.8),
    "ranking": (rankings, PAIRS, ("map", "mrr", "ndcg"), 0.8),
    "embedding": (likenesses, {**PLAIN, "text_columns": ("a", "b")}, ("spearman",), 0.6),
}


def settings_of(folder, task, **changes):
    write, data, metrics, _ = RUNS[task]
    return tiny_run.settings(
        folder, 2,
        **{
            "model": {"task": task, "dropout": 0.0},
            "data": {**data, "path": write(folder)},
            "elimination": {"alphas": (0.9, 0.7), "sandwich": True, "distill": 0.5,
                            "strategy": "merge", "calibration_examples": 0},
            "train": {"max_steps": 60, "batch_size": 16},
            "eval": {"metrics": metrics, "alphas": (0.9,)},
            **changes,
        },
    )  # fmt: skip


@pytest.mark.parametrize("task", RUNS)
def test_a_run_learns_and_is_evaluated_again_to_the_same_numbers(task, tmp_path):
    """Chance is about 0.5 for labels and rankings, and 0 for likenesses."""
    settings = settings_of(tmp_path, task)
    results = train(settings)
    headline, least = results.metrics[0], RUNS[task][-1]
    assert [row.alpha for row in results.rows] == [None, 0.9]
    assert all(row.metrics["test"][headline] > least for row in results.rows)
    model, _ = latadj_jax.from_pretrained(tmp_path / "runs/tiny/model")
    assert model.task == task
    again = evaluate_run(tmp_path / "runs/tiny", alphas=(0.9,))
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows]
    if task == "multi-label":
        assert model.config.labels == ("bad", "good")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory, standard_promotion):
    folder = tmp_path_factory.mktemp("embedder")
    config = tiny.make_model(num_hidden_layers=2).config
    model = latadj_jax.Model(config.replace(embedding=Embedding(steps=(NormalizeStep(),))),
                             "embedding")  # fmt: skip
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(folder / "model", model, params, tiny_run.tokenizer(folder))
    return folder


def test_an_embedding_model_teaches_its_faster_passes(embedder, tmp_path):
    """On texts alone; its dense pass stays what it was, and the others come nearer to it."""
    lines = Path(tiny_run.csv(tmp_path)).read_text().split("\n")[1:-1]
    (tmp_path / "texts.txt").write_text("".join(line.split(",")[0] + "\n" for line in lines))
    values = tiny_run.config(tmp_path, 2)
    values["model"] = {"source": str(embedder / "model"), "task": "embedding", "dropout": 0.0}
    values["data"] |= {"path": str(tmp_path / "texts.txt"), "label_column": ""}
    values["elimination"] = {"alphas": (0.9, 0.3), "sandwich": True, "distill": 0.5,
                             "strategy": "merge", "calibration_examples": 0}  # fmt: skip
    values["eval"] |= {"metrics": ("fidelity",), "alphas": (0.3,)}
    fidelity = {}
    for steps, rate in ((1, 1e-9), (100, 1e-3)):
        values["train"] |= {"max_steps": steps, "learning_rate": rate}
        values["workdir"] = str(tmp_path / f"run{steps}")
        results = train(from_config(values))
        fidelity[steps] = [row.metrics["test"]["fidelity"] for row in results.rows]
    assert fidelity[1][0] == pytest.approx(1, abs=1e-5)
    assert fidelity[100][0] > 0.99
    assert fidelity[100][1] > fidelity[1][1] + 0.2 * (1 - fidelity[1][1])
    assert results.unit.startswith("texts as ")
    again = evaluate_run(tmp_path / "run100", alphas=(0.3,))
    assert [row.metrics["test"]["fidelity"] for row in again.rows] == fidelity[100]


def test_relevances_and_labels_that_cannot_be_are_refused(tmp_path):
    settings = settings_of(tmp_path, "ranking")
    file = tmp_path / "pairs.txt"
    file.write_text(file.read_text() + "good\tbad\t3\n")
    with pytest.raises(ValueError, match=r"label 3\.0 of example \d+ must be in 0\.\.1"):
        train(settings)
    data = dataclasses.replace(settings_of(tmp_path, "multi-label").data, labels=("good", "fine"))
    with pytest.raises(ValueError, match=r"label 'bad' is not one of good \(0\), fine \(1\)"):
        train(dataclasses.replace(settings_of(tmp_path, "multi-label"), data=data))


def test_labels_of_the_other_kind_are_refused(tmp_path):
    """Several labels where one is meant; and one where several are is a list of one."""
    settings = settings_of(tmp_path, "multi-label")
    one = dataclasses.replace(settings.model, task="classification")
    metrics = dataclasses.replace(settings.eval, metrics=("accuracy",))
    with pytest.raises(ValueError, match=r"is not one value; several are for task 'multi-label'"):
        train(dataclasses.replace(settings, model=one, eval=metrics))
    assert np.isfinite(settings.train.learning_rate)
