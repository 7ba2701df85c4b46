"""What happens to a run when a machine, a disk or another run of it fails."""

import json
import re
import resource
import signal
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import kill_and_resume
import numpy as np
import pytest
import tiny_run

import latadj_jax
from latadj_jax.errors import SettingsError
from latadj_jax.training import train
from latadj_jax.training.checkpoints import Checkpoints
from latadj_jax.training.settings import from_config

# What orbax began to read when it met damage is never awaited: garbage, in any test after it.
pytestmark = [
    pytest.mark.usefixtures("standard_promotion"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def run_process(settings_file: Path) -> subprocess.Popen:
    return subprocess.Popen(
        kill_and_resume.command(settings_file), env=kill_and_resume.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_run_ends_as_one_never_killed(tmp_path):
    found = kill_and_resume.compare(tmp_path, kills=2, steps=40, seed=1)
    assert len(found["at"]) == 2


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    file = kill_and_resume.settings_file(tmp_path, steps=4000)
    run = tmp_path / "runs" / "tiny"
    process = run_process(file)
    kill_and_resume.wait_for_step(run, 10, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    saved_steps = [int(f.name) for f in (run / "checkpoints").glob("[0-9]*")]
    step = int(re.search(r"asked to stop: step (\d+) of 4000 is saved", errors)[1])
    assert max(saved_steps) == step >= 10
    assert not (run / "model").exists()
    again = run_process(file)
    kill_and_resume.wait_for_step(run, step + 3, again)
    again.kill()
    assert f"Going on from step {step} of 4000" in again.communicate()[1]


def test_a_folder_in_use_is_refused(tmp_path):
    file = kill_and_resume.settings_file(tmp_path, steps=4000)
    run = tmp_path / "runs" / "tiny"
    process = run_process(file)
    try:
        kill_and_resume.wait_for_step(run, 3, process)
        with pytest.raises(SettingsError, match="in use by another run"):
            train.train(training_settings(file))
    finally:
        process.kill()
        process.communicate()


def training_settings(file: Path):
    return from_config(json.loads(file.read_text()))


def test_a_disk_that_is_full_ends_clearly_and_the_run_goes_on(tmp_path):
    """A limit on file sizes stands for the disk: writing a checkpoint fails."""
    file = kill_and_resume.settings_file(tmp_path, steps=20)
    run = tmp_path / "runs" / "tiny"

    process = run_process(file)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    _, errors = process.communicate(timeout=240)
    assert process.returncode not in (0, -signal.SIGXFSZ)
    assert "too large" in errors.lower() or "writing" in errors.lower(), errors[-2000:]
    assert not (run / "model").exists()
    train.train(training_settings(file))
    assert (run / "model" / "model.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    settings = tiny_run.settings(tmp_path, num_layers=1, workdir=str(tmp_path / "file" / "run"))
    with pytest.raises(SettingsError, match="cannot be used"):
        train.train(settings)


def test_the_last_good_checkpoint_is_named_when_the_loss_is_no_number(tmp_path, monkeypatch):
    settings = tiny_run.settings(
        tmp_path, num_layers=1, train={"checkpoint_every": 4, "log_every": 1}
    )
    step_of_train, calls = train.train_step, []

    def breaks(what, state, batch, key):
        calls.append(1)
        if len(calls) == 7:
            state = state.replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params))
        return step_of_train(what, state, batch, key)

    monkeypatch.setattr(train, "train_step", breaks)
    with pytest.raises(FloatingPointError, match=r"at step 7.*checkpoint is that of step 4"):
        train.train(settings)


@pytest.mark.parametrize(("values", "expected"), [((5, 2, 9, 7), 6), ((5, 4, 3, 1), 12)])
def test_the_best_checkpoint_is_the_model_in_the_end(tmp_path, monkeypatch, values, expected):
    """Be it the last, which is still being written, or an earlier one."""
    watching = {"max_steps": 12, "checkpoint_every": 3, "evaluate_every": 3, "keep": 1,
                "keep_best": True}  # fmt: skip
    coming = iter(values)
    monkeypatch.setattr(train, "held_out_loss", lambda *_: float(next(coming)))
    settings = tiny_run.settings(tmp_path, num_layers=1, train=watching)
    train.train(settings)
    run = Path(settings.workdir)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["evaluation_loss"] for line in lines if "evaluation_loss" in line}
    assert sorted(losses) == [3, 6, 9, 12]
    assert list(losses.values()) == list(values)
    best = min(losses, key=losses.get)
    kept = {int(f.name) for f in (run / "checkpoints").glob("[0-9]*")}
    assert kept == {best, 12}
    assert best == expected
    _, params = latadj_jax.from_pretrained(run / "model")
    final = Checkpoints(run / "checkpoints", watched=True)
    raw = final._manager.restore(best).state["params"]
    final.close()
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.asarray, raw))
