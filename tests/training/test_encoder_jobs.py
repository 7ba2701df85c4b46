"""Whole runs on several labels, on rankings and on embeddings: trained, saved, evaluated again."""

import dataclasses
import json
import random
from pathlib import Path

import jax
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.families.pooling import Embedding, NormalizeStep
from latadj_jax.tasks.registry import TASKS
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import labelled
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
    """Ten candidates of each query, one of which is right: it holds the word "good"."""
    rng, lines = random.Random(0), []
    for n in range(queries):
        right = rng.randrange(10)
        for place in range(10):
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
    """Chance is about 0.5 for labels, 0.3 for rankings, and 0 for likenesses."""
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


@pytest.mark.parametrize(("task", "scale"), [("ranking", 8.0), ("embedding", 1.0)])
def test_the_held_out_loss_of_a_pupil_is_its_distance_from_its_teacher(task, scale, tmp_path):
    """0 of the teacher itself; raw logits as relevances would make it less than that."""
    config = tiny.make_model("bert", task, num_hidden_layers=2)
    params = jax.tree.map(lambda x: x * scale if x.shape in ((32, 1), (1,)) else x,
                          tiny.random_params(config))  # fmt: skip
    latadj_jax.save_pretrained(tmp_path / "m", config, params, tiny_run.tokenizer(tmp_path))
    settings = settings_of(tmp_path, task)
    columns = {"label_column": "", "local_label_column": ""}
    settings = dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, source=str(tmp_path / "m")),
        data=dataclasses.replace(settings.data, **columns),
        elimination=dataclasses.replace(settings.elimination, dense=True, alphas=(), sandwich=False,
                                        distill=0.0),
        train=dataclasses.replace(settings.train, max_steps=1, learning_rate=1e-12,
                                  checkpoint_every=1, evaluate_every=1),
        eval=dataclasses.replace(settings.eval, metrics=(TASKS[task].agreement,), alphas=()),
    )  # fmt: skip
    train(settings)
    log = (tmp_path / "runs/tiny/metrics.jsonl").read_text().split("\n")
    found = [json.loads(line) for line in log if "evaluation_loss" in line]
    assert found[-1]["evaluation_loss"] == pytest.approx(0, abs=1e-5)


def test_pairs_with_labels_can_be_learned_from_a_teacher(embedder, tmp_path):
    """Both texts of a pair have the teacher's vectors; the metric is of the labels."""
    settings = settings_of(tmp_path, "embedding")
    source = str(embedder / "model")
    settings = dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, source=source),
        data=dataclasses.replace(settings.data, teacher=source),
        train=dataclasses.replace(settings.train, max_steps=2),
    )
    results = train(settings)
    assert -1 <= results.rows[0].metrics["test"]["spearman"] <= 1


@pytest.mark.parametrize(
    ("task", "section", "change", "message"),
    [
        ("embedding", "train", {"accumulate": 2}, "train.accumulate must be 1 for embedding"),
        ("embedding", "eval", {"metrics": ("fidelity",)}, "'fidelity' is for texts without labels"),
        ("embedding", "data", {"label_column": ""}, "'spearman' is for texts with labels"),
        ("embedding", "data", {"text_columns": ("a",)}, "a label says how alike two texts are"),
        ("ranking", "data", {"local_text_columns": ("0",)}, "holds no pairs of a query and a doc"),
        (
            "ranking",
            "data",
            {"label_column": "", "local_label_column": ""},
            "map needs labels",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_weights_are_read(
    task, section, change, message, tmp_path, monkeypatch
):
    settings = settings_of(tmp_path, task)
    changed = dataclasses.replace(getattr(settings, section), **change)
    settings = dataclasses.replace(settings, **{section: changed})
    if "label_column" not in change:  # else the teacher is read before
        monkeypatch.setattr(labelled, "from_pretrained", None)
    else:
        monkeypatch.setattr(labelled, "load_teacher", lambda settings: None)
    with pytest.raises(ValueError, match=message):
        checked_and_trained(settings)


def checked_and_trained(settings):
    settings.check()  # as the command does at its border
    return train(settings)


def test_all_candidates_of_a_query_are_held_out_or_none(tmp_path):
    data = settings_of(tmp_path, "ranking").data
    for limit in (0, 35):
        limited = dataclasses.replace(data, max_train_examples=limit, max_eval_examples=limit)
        train_part, evals, _ = load_examples(limited, TASKS["ranking"])
        queries = [[texts[0] for texts in part.texts] for part in (train_part, evals["test"])]
        assert not {*queries[0]} & {*queries[1]}
        for of_part in queries:
            assert {of_part.count(query) for query in of_part} == {10}
            assert not limit or len(of_part) == 30


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
