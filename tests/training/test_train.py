"""Whole runs: what they leave, that they learn and resume exactly, and what they refuse."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_run
from safetensors.numpy import load_file, save_file

import latadj_jax
from latadj_jax.errors import SettingsError, WeightsError
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training import train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import labelled
from latadj_jax.training.optimizer import learning_rate
from latadj_jax.training.run_folder import check_workdir
from latadj_jax.training.settings import TrainSettings


def log_of(workdir) -> list[dict]:
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def params_of(workdir):
    return latadj_jax.from_pretrained(Path(workdir) / "model")[1]


pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One finished run and its settings."""
    settings = tiny_run.settings(tmp_path_factory.mktemp("run"), train={"max_steps": 60})
    return settings, train.train(settings)


def short_settings(folder, **changes):
    """Of some steps with two checkpoints; two layers, so that a cut comes before a layer."""
    return tiny_run.settings(folder, num_layers=2, train={"checkpoint_every": 4}, **changes)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    settings = short_settings(tmp_path_factory.mktemp("short"))
    train.train(settings)
    return settings


def test_run_leaves_artefact_report_log_and_pictures(run):
    workdir = Path(run[0].workdir)
    for name in ("report.md", "metrics.jsonl", "results.json", "speed.png", "acc.png"):
        assert (workdir / name).stat().st_size > 100, name
    model, _ = latadj_jax.from_pretrained(workdir / "model")
    assert (model.task, model.alpha, model.config.labels) == (
        "classification",
        0.9,
        ("bad", "good"),
    )
    assert len(model.profile.acc) == 3
    assert model.profile == latadj_jax.Profile.load(workdir / "profile.json")
    assert load_tokenizer(str(workdir / "model"))("good word3")["input_ids"] == [2, 5, 10, 3]


def test_fine_tuning_learns_with_elimination_on(run):
    settings, results = run
    losses = [line["loss"] for line in log_of(settings.workdir)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    accuracy = {row.alpha: row.metrics["test"]["accuracy"] for row in results.rows}
    assert accuracy[0.9] > 0.8


def test_rows_hold_work_that_falls_with_alpha(run):
    rows = run[1].rows
    assert [row.alpha for row in rows] == [None, 0.9, 0.7]
    assert (rows[0].expected_speedup, rows[0].measured_speedup) == (1, 1)
    assert rows[0].remaining == [1, 1, 1]
    assert rows[0].macs > rows[1].macs > rows[2].macs
    assert 1 < rows[1].expected_speedup < rows[2].expected_speedup
    assert all(np.diff(row.remaining).max() <= 0 for row in rows[1:])


def test_report_has_a_line_for_each_alpha(run):
    report = (Path(run[0].workdir) / "report.md").read_text()
    for row in run[1].rows:
        name = "dense" if row.alpha is None else f"{row.alpha:g}"
        assert f"| {name} | {row.metrics['test']['accuracy']:.4f} |" in report


def test_eval_gives_the_same_quality_as_the_run(run):
    settings, results = run
    again = evaluate_run(Path(settings.workdir), [0.7])
    assert [row.alpha for row in again.rows] == [None, 0.7]
    assert again.rows[1].metrics == results.rows[2].metrics
    assert again.rows[1].macs == results.rows[2].macs
    default = evaluate_run(Path(settings.workdir), dtype="bfloat16")
    assert [row.alpha for row in default.rows] == [None, 0.9]
    assert (again.dtype, default.dtype) == ("float32", "bfloat16")


def test_eval_of_a_folder_that_cannot_be_written_gives_its_results(run, monkeypatch, caplog):
    def refuse(path, text):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("latadj_jax.training.evaluate_run.write_whole", refuse)
    assert evaluate_run(Path(run[0].workdir), [0.7]).rows
    assert "The results were not kept: [Errno 30] Read-only file system" in caplog.text


def test_eval_with_another_strategy(run):
    settings, results = run
    merged = evaluate_run(Path(settings.workdir), [0.7], strategy="merge")
    assert merged.strategy == "merge"
    dense, pruned = merged.rows
    assert dense.metrics == results.rows[0].metrics
    assert pruned.macs > results.rows[2].macs
    with pytest.raises(ValueError, match="'recall' is for other models"):
        evaluate_run(Path(settings.workdir), [0.7], strategy="recall")


def test_eval_reads_labels_as_the_model_learned_them(run):
    """Fails if ids follow today's data: sorted anew, "good" would become 0."""
    settings, _ = run
    data = Path(settings.data.path)
    text = data.read_text()
    try:
        data.write_text(text.replace(",bad\n", ",zbad\n"))
        with pytest.raises(ValueError, match="label 'zbad' is not one of bad"):
            evaluate_run(Path(settings.workdir))
    finally:
        data.write_text(text)


def test_same_command_gives_the_same_numbers(short_run, tmp_path):
    again = short_settings(tmp_path)
    other = short_settings(tmp_path, workdir=str(tmp_path / "other"), seed=1)
    for settings in (again, other):
        train.train(settings)
    assert log_of(again.workdir) == log_of(short_run.workdir)
    assert tiny.same_params(params_of(again.workdir), params_of(short_run.workdir))
    assert log_of(other.workdir) != log_of(short_run.workdir)


class Killed(BaseException):
    """Not an Exception, so that nothing on the way catches it."""


def test_interrupted_run_goes_on_to_the_same_end(short_run, tmp_path, monkeypatch):
    """Fails if data order, dropout, optimizer state, profile or log depend on the interruption."""
    broken = short_settings(tmp_path)

    step_of_train, calls = train.train_step, []

    def dies_at_the_seventh(*args):
        calls.append(1)
        if len(calls) == 7:
            raise Killed
        return step_of_train(*args)

    monkeypatch.setattr(train, "train_step", dies_at_the_seventh)
    with pytest.raises(Killed):
        train.train(broken)
    monkeypatch.undo()
    assert [line["step"] for line in log_of(broken.workdir)] == [2, 4, 6]
    train.train(broken)
    assert log_of(broken.workdir) == log_of(short_run.workdir)
    assert tiny.same_params(params_of(broken.workdir), params_of(short_run.workdir))


def test_finished_run_is_not_trained_again(run, monkeypatch):
    monkeypatch.setattr(train, "train_step", None)
    again = train.train(run[0])
    assert [row.metrics for row in again.rows] == [row.metrics for row in run[1].rows]


def test_every_example_is_seen_once_an_epoch(tmp_path):
    lengths = np.random.default_rng(0).integers(1, 25, 61)
    data = train.Encoded(
        [{"input_ids": np.full(n, i, np.int32)} for i, n in enumerate(lengths)], np.arange(61)
    )
    t = TrainSettings(batch_size=8)
    epochs = [[], []]
    for step, batch in train.training_batches(data, (16, 24), t, 0, 0, 16):
        seen = batch["labels"][batch["weights"] > 0]
        assert (batch["input_ids"][batch["weights"] > 0, 0] == seen).all()
        epochs[(step - 1) // 8].extend(seen.tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(61))
    assert epochs[0] != epochs[1]
    late = list(train.training_batches(data, (16, 24), t, 0, 11, 16))
    assert [step for step, _ in late] == [12, 13, 14, 15, 16]
    whole = list(train.training_batches(data, (16, 24), t, 0, 0, 16))[11:]
    for (_, resumed), (_, uninterrupted) in zip(late, whole, strict=True):
        np.testing.assert_array_equal(resumed["input_ids"], uninterrupted["input_ids"])


def test_regression_run(tmp_path):
    scores = tmp_path / "scores.csv"
    text = Path(tiny_run.csv(tmp_path)).read_text()
    scores.write_text(text.replace(",good", ",1.5").replace(",bad", ",0.0"))
    settings = tiny_run.settings(
        tmp_path,
        num_layers=1,
        model={"task": "regression"},
        data={"path": str(scores)},
        eval={"metrics": ("pearson", "spearman")},
    )
    results = train.train(settings)
    model, params = latadj_jax.from_pretrained(Path(settings.workdir) / "model")
    assert (model.task, params["classifier"]["kernel"].shape) == ("regression", (32, 1))
    assert set(results.rows[0].metrics["test"]) == {"pearson", "spearman"}


@pytest.mark.parametrize(
    "elimination",
    [
        {"dense": True},
        {"count": "padded"},
        {"strategy": "random"},
        {"strategy": "merge"},
        {"fit": "falling"},
    ],
)
def test_other_ways_of_training(tmp_path, elimination):
    settings = tiny_run.settings(
        tmp_path, num_layers=2, elimination=elimination, train={"max_steps": 3}
    )
    results = train.train(settings)
    assert len(results.rows) == 3
    model, _ = latadj_jax.from_pretrained(Path(settings.workdir) / "model")
    assert model.alpha == (None if elimination.get("dense") else 0.9)
    assert (model.profile == latadj_jax.Profile.falling(2)) == (elimination == {"fit": "falling"})


def test_learning_rate_warms_up_and_decays():
    schedule = learning_rate(TrainSettings(learning_rate=1.0, warmup=0.2), 10)
    np.testing.assert_allclose([schedule(n) for n in range(11)], [0, 0.5, *np.linspace(1, 0, 9)])


# ---- what is refused --------------------------------------------------------------------------


def test_folder_of_another_run_is_refused(run):
    settings, _ = run
    changed = tiny_run.from_config(
        {**json.loads((Path(settings.workdir) / "settings.json").read_text()), "seed": 5}
    )
    with pytest.raises(SettingsError, match=r"belongs to a run with other settings \(seed\)"):
        train.train(changed)
    assert json.loads((Path(settings.workdir) / "settings.json").read_text())["seed"] == 0


def test_a_run_is_not_taken_up_on_other_data(run, tmp_path):
    settings = dataclasses.replace(run[0], workdir=str(tmp_path / "again"))
    shutil.copytree(run[0].workdir, settings.workdir)
    data = tmp_path / "data.csv"
    shutil.copy(settings.data.path, data)
    file = Path(settings.data.path)
    try:
        file.write_text(file.read_text().replace("good", "bad", 3))
        with pytest.raises(SettingsError, match="training data are not those"):
            train.train(settings)
    finally:
        shutil.copy(data, file)
    assert tiny.same_params(params_of(settings.workdir), params_of(run[0].workdir))


def test_the_folder_of_a_run_may_be_moved_or_spelled_otherwise(run, tmp_path):
    settings, _ = run
    shutil.copytree(settings.workdir, tmp_path / "moved")
    for workdir in (f"{settings.workdir}/", str(tmp_path / "moved")):
        assert check_workdir(dataclasses.replace(settings, workdir=workdir)) == []


def test_tokens_that_the_model_does_not_know_are_refused(tmp_path):
    """Their embedding is NaN: training would fail at the first steps, of no clear reason."""
    settings = tiny_run.settings(tmp_path)
    tokenizer = load_tokenizer(settings.model.source)
    tokenizer.add_tokens([f"new{n}" for n in range(60)])
    tokenizer.save_pretrained(settings.model.source)
    file = Path(settings.data.path)
    file.write_text(file.read_text().replace("word39", "new59"))
    with pytest.raises(ValueError, match=r"has input_ids 2\.\.106, the model knows 0\.\.99"):
        train.train(settings)
    assert not (tmp_path / "runs").exists()


def test_label_beyond_the_head_is_refused(tmp_path):
    settings = tiny_run.settings(tmp_path, data={"labels": ("good", "fine")})
    with pytest.raises(ValueError, match="'bad' is not one of good"):
        train.train(settings)


def test_a_head_of_the_same_classes_in_another_order_is_refused(run, tmp_path):
    """Its answers would be taken for those of the other class."""
    source = str(Path(run[0].workdir) / "model")
    labels = latadj_jax.from_pretrained(source)[0].config.labels
    settings = tiny_run.settings(tmp_path, data={"labels": labels[::-1]})
    settings = dataclasses.replace(
        settings, model=dataclasses.replace(settings.model, source=source)
    )
    with pytest.raises(SettingsError, match=r"set config\.data\.labels to the head's"):
        train.train(settings)


def test_max_length_beyond_the_positions_is_refused(tmp_path):
    settings = tiny_run.settings(tmp_path, data={"max_length": 41})
    with pytest.raises(ValueError, match="max_length is 41, the model has 40 positions"):
        train.train(settings)


def test_long_text_is_refused_unless_cutting_is_asked_for(tmp_path):
    data = {"max_length": 10, "buckets": ()}
    message = r"longer than config\.data\.max_length.*which begins with '\w+"
    with pytest.raises(ValueError, match=message):
        train.train(tiny_run.settings(tmp_path, data=data))
    assert not (tmp_path / "runs").exists()
    data = {**data, "truncate": True}
    settings = tiny_run.settings(tmp_path, num_layers=1, data=data, train={"max_steps": 1})
    assert train.train(settings).rows


def test_loss_that_is_no_number_stops_the_run(tmp_path):
    wild = {"learning_rate": 1e30, "checkpoint_every": 3}
    settings = tiny_run.settings(tmp_path, num_layers=1, train=wild)
    with pytest.raises(FloatingPointError, match=r"lower config\.train\.learning_rate"):
        train.train(settings)
    assert not (Path(settings.workdir) / "model").exists()
    assert not list(Path(settings.workdir).glob("checkpoints/[0-9]*"))


def test_no_run_is_one_sentence(tmp_path):
    from latadj_jax.training.run_folder import newest_run

    with pytest.raises(SettingsError, match=r"no finished run in .*latadj train --config"):
        newest_run(tmp_path)
    with pytest.raises(SettingsError, match="not the folder of a run"):
        evaluate_run(tmp_path)


def test_unknown_tensors_of_the_model_pass_if_that_is_wanted(tmp_path):
    settings = tiny_run.settings(tmp_path, num_layers=1)
    file = Path(settings.model.source) / "model.safetensors"
    save_file({**load_file(file), "rm_head.weight": np.zeros((1, 32), np.float32)}, file)
    with pytest.raises(
        WeightsError, match=r"unexpected: rm_head\.weight\. .*config\.model\.strict=F"
    ):
        labelled.load(settings)
    lenient = dataclasses.replace(settings.model, strict=False)
    assert labelled.load(dataclasses.replace(settings, model=lenient)).params
