"""What happens to a run when a machine, a disk, a file or another process fails."""

import gc
import json
import re
import resource
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import kill_and_resume
import numpy as np
import pytest
import tiny_run

import latadj_jax
from latadj_jax import tasks, training
from latadj_jax.checkpoint import Checkpoints, checksum
from latadj_jax.settings import SettingsError

# What orbax began to read when it met a damaged file is never awaited: garbage of any later test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def garbage_stays_here():
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """optax's Adam raises a Python float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def state(value: float = 1.0):
    value = float(value)
    return {"a": jnp.full((64, 32), value), "b": {"c": jnp.arange(5), "d": jnp.float32(value)}}


def saved(folder: Path, *steps: int, **options) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, state(step))
    checkpoints.wait()
    return checkpoints


def arrays_in(folder: Path) -> list[Path]:
    """Files that hold the numbers of all processes, the largest first."""
    files = [file for file in (folder / "state" / "d").rglob("*") if file.is_file()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def test_the_newest_checkpoints_stay_and_come_back_exactly(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(int(f.name) for f in tmp_path.glob("[0-9]*")) == [3, 4]
    checkpoints.save(5, state(5), pending=(0.1, np.float32(0.7)))
    checkpoints.wait()
    assert checkpoints.restore_newest(state(0.0))[2] == [0.1, float(np.float32(0.7))]
    step, found, _ = checkpoints.restore_newest(state(0.0))
    assert step == 5
    jax.tree.map(np.testing.assert_array_equal, found, state(5))
    checkpoints.close()


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, watched=True)
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5), (4, None), (5, 0.8)):
        checkpoints.save(step, state(step), loss=loss)
    checkpoints.wait()
    assert (checkpoints.best, checkpoints.newest) == (2, 5)
    assert sorted(int(f.name) for f in tmp_path.glob("[0-9]*")) == [2, 5]
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=1, watched=True)
    assert again.best == 2
    again.close()


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip_a_bit])
@pytest.mark.parametrize("which", [0, -1], ids=["largest", "smallest"])
def test_a_damaged_newest_checkpoint_is_put_aside(tmp_path, caplog, damage, which):
    saved(tmp_path, 5, 10).close()
    damage(arrays_in(tmp_path / "10")[which])
    checkpoints = Checkpoints(tmp_path)
    with caplog.at_level("WARNING", "latadj_jax"):
        step, found, _ = checkpoints.restore_newest(state(0.0))
    if step == 10:  # a file of no consequence: then the numbers are right
        jax.tree.map(np.testing.assert_array_equal, found, state(10))
    else:
        assert step == 5
        jax.tree.map(np.testing.assert_array_equal, found, state(5))
        assert (tmp_path / "10.damaged").is_dir()
        assert "checkpoint 10" in caplog.text
        assert "trying the one before" in caplog.text
    if which == 0:
        assert step == 5
    checkpoints.save(10, state(11))
    assert checkpoints.restore_newest(state(0.0))[0] == 10
    checkpoints.close()


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip_a_bit])
def test_any_file_of_a_checkpoint_may_be_damaged(tmp_path, damage):
    """Metadata, what the checkpoint says of itself, losses: the run goes on with right numbers."""
    first = Checkpoints(tmp_path / "whole", watched=True)
    for step in (5, 10):
        first.save(step, state(step), loss=1 / step)
    first.close()
    names = [f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole" / "10").rglob("*")
             if f.is_file() and f.stat().st_size]  # fmt: skip
    assert len(names) > 5
    for n, name in enumerate(names):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / name)
        with closing(Checkpoints(folder, watched=True)) as checkpoints:
            assert checkpoints.best in (5, 10), name
            step, found, _ = checkpoints.restore_newest(state(0.0))
        assert step in (5, 10), name
        jax.tree.map(np.testing.assert_array_equal, found, state(step))


def test_numbers_other_than_those_saved_are_noticed(tmp_path):
    """A missing chunk may read as zeros, without an error."""
    checkpoints = saved(tmp_path, 3)
    about = next((tmp_path / "3" / "about").glob("*"))
    about.write_text(json.dumps({"checksum": 1}))
    with pytest.raises(ValueError, match=r"none of the checkpoints .*\(steps \[3\]\).*start anew"):
        checkpoints.restore_newest(state(0.0))
    assert (tmp_path / "3").is_dir()  # left as it is
    checkpoints.close()


def test_the_checksum_sees_every_bit():
    base = int(checksum(state()))
    changed = state()
    changed["a"] = changed["a"].at[63, 31].set(np.nextafter(np.float32(1), np.float32(2)))
    assert int(checksum(changed)) != base
    one, two = {"x": jnp.zeros(3), "y": jnp.ones(3)}, {"x": jnp.ones(3), "y": jnp.zeros(3)}
    assert int(checksum(one)) != int(checksum(two))
    swapped = {"x": jnp.arange(5.0), "y": jnp.arange(5.0)[::-1]}
    assert int(checksum(swapped)) != int(checksum({"x": swapped["y"], "y": swapped["y"]}))
    half = {"x": jnp.full(3, 1.5, jnp.bfloat16)}
    assert int(checksum(half)) != int(checksum({"x": jnp.full(3, -1.5, jnp.bfloat16)}))


def run_process(settings_file: Path) -> subprocess.Popen:
    return subprocess.Popen(
        kill_and_resume.command(settings_file), env=kill_and_resume.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if kill_and_resume.steps_done(run) >= step:
            return
        assert process.poll() is None, "it ended"
        time.sleep(0.05)
    raise AssertionError("it does not get on")


def test_a_killed_run_ends_as_one_never_killed(tmp_path):
    found = kill_and_resume.compare(tmp_path, kills=2, steps=40, seed=1)
    assert len(found["at"]) == 2


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    file = kill_and_resume.settings_file(tmp_path, steps=4000)
    run = tmp_path / "runs" / "tiny"
    process = run_process(file)
    wait_for_step(run, 10, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    saved_steps = [int(f.name) for f in (run / "checkpoints").glob("[0-9]*")]
    step = int(re.search(r"asked to stop: step (\d+) of 4000 is saved", errors)[1])
    assert max(saved_steps) == step >= 10
    assert not (run / "model").exists()
    again = run_process(file)
    wait_for_step(run, step + 3, again)
    again.kill()
    assert f"Going on from step {step} of 4000" in again.communicate()[1]


def test_a_folder_in_use_is_refused(tmp_path):
    file = kill_and_resume.settings_file(tmp_path, steps=4000)
    run = tmp_path / "runs" / "tiny"
    process = run_process(file)
    try:
        wait_for_step(run, 3, process)
        with pytest.raises(SettingsError, match="in use by another run"):
            training.train(training_settings(file))
    finally:
        process.kill()
        process.communicate()


def training_settings(file: Path):
    from latadj_jax.settings import from_config

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
    training.train(training_settings(file))
    assert (run / "model" / "model.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    settings = tiny_run.settings(tmp_path, num_layers=1, workdir=str(tmp_path / "file" / "run"))
    with pytest.raises(SettingsError, match="cannot be used"):
        training.train(settings)


def test_the_last_good_checkpoint_is_named_when_the_loss_is_no_number(tmp_path, monkeypatch):
    settings = tiny_run.settings(
        tmp_path, num_layers=1, train={"checkpoint_every": 4, "log_every": 1}
    )
    step_of_train, calls = training.train_step, []

    def breaks(what, state, batch, key):
        calls.append(1)
        if len(calls) == 7:
            state = state.replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params))
        return step_of_train(what, state, batch, key)

    monkeypatch.setattr(training, "train_step", breaks)
    with pytest.raises(FloatingPointError, match=r"at step 7.*checkpoint is that of step 4"):
        training.train(settings)


@pytest.mark.parametrize(("values", "expected"), [((5, 2, 9, 7), 6), ((5, 4, 3, 1), 12)])
def test_the_best_checkpoint_is_the_model_in_the_end(tmp_path, monkeypatch, values, expected):
    """Be it the last, which is still being written, or an earlier one."""
    train = {"max_steps": 12, "checkpoint_every": 3, "evaluate_every": 3, "keep": 1,
             "keep_best": True}  # fmt: skip
    coming = iter(values)
    monkeypatch.setattr(training, "held_out_loss", lambda *_: float(next(coming)))
    settings = tiny_run.settings(tmp_path, num_layers=1, train=train)
    training.train(settings)
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


def test_the_distance_from_a_teacher_is_the_kl_divergence():
    """KL(teacher || student), no gradient to the teacher; of a regression the squared error."""
    logits, teacher = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    weights = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (teacher, logits))
    expected = ((p * np.log(p / q)).sum(-1) * weights).sum()
    found = tasks.total_distance("lm", jnp.asarray(logits), jnp.asarray(teacher), weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    one = jnp.asarray(logits[..., :1]), jnp.asarray(teacher[..., :1])
    squared = (np.square(logits[..., 0] - teacher[..., 0]) * weights).sum()
    assert float(tasks.total_distance("regression", *one, weights)) == pytest.approx(squared)
    gradient = jax.grad(lambda t: tasks.total_distance("lm", jnp.asarray(logits), t, weights))
    assert not np.asarray(gradient(jnp.asarray(teacher))).any()


def test_several_alphas_are_drawn_by_the_step_alone(tmp_path):
    base = tiny_run.settings(tmp_path, num_layers=2).elimination
    import dataclasses

    import tiny

    model = tiny.make_model().replace(alpha=0.9)
    one = dataclasses.replace(base, alphas=(0.7, 0.8, 1.1))
    drawn = [training.plans_of_step(model, one, 16, 0, step) for step in range(30)]
    assert drawn == [training.plans_of_step(model, one, 16, 0, step) for step in range(30)]
    assert {len(plans) for plans in drawn} == {1}
    assert len(set(drawn)) == 3
    sandwich = dataclasses.replace(one, sandwich=True, distill=0.5)
    dense, largest, smallest, between = training.plans_of_step(model, sandwich, 16, 0, 1)
    assert dense.is_dense
    assert [plan.rates[0] for plan in (largest, between, smallest)] == sorted(
        (plan.rates[0] for plan in (largest, between, smallest)), reverse=True
    )


@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_a_run_at_several_alphas(tmp_path, distill):
    elimination = {"alphas": (0.7, 0.9, 1.0), "sandwich": True, "distill": distill}
    settings = tiny_run.settings(
        tmp_path, num_layers=2, elimination=elimination, train={"max_steps": 40}
    )
    results = training.train(settings)
    assert all(row["metrics"]["test"]["accuracy"] > 0.7 for row in results["rows"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": {"data": -1, "fsdp": -1}}, "config.mesh .*-1 for one axis at most"),
        ({"mesh": {"fsdp": 0}}, "config.mesh .*at least 1"),
        ({"train": {"accumulate": 3}}, "accumulate .*a divisor of train.batch_size, 8"),
        ({"train": {"evaluate_every": 7, "checkpoint_every": 5}}, "evaluate_every .*a multiple"),
        ({"train": {"keep_best": True}}, "evaluate_every .*above 0 with train.keep_best"),
        ({"train": {"keep": 0}}, "config.train.keep"),
        ({"train": {"evaluate_every": 5, "checkpoint_every": 0}}, "config.train.checkpoint_every"),
        ({"train": {"generator": "dice"}}, "rbg"),
        ({"elimination": {"alphas": (0.9, 0.9)}}, "alphas .*all different"),
        ({"elimination": {"alphas": (0.9, -1.0)}}, "alphas .*greater than 0"),
        ({"elimination": {"sandwich": True}}, "alphas .*two or more with a sandwich"),
        ({"elimination": {"distill": 1.5}}, "distill .*a share"),
        (
            {"model": {"task": "lm"}, "elimination": {"fit": "falling"}},
            "fit .*quadratic.* for a model of task lm",
        ),
        ({"elimination": {"distill": 0.5, "dense": True}}, "distill .*0 with elimination.dense"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_settings_that_cannot_work_are_one_sentence(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message) as raised:
        tiny_run.settings(tmp_path, num_layers=1, **changes)
    assert "\n" not in str(raised.value)


def test_a_batch_that_the_mesh_cannot_share_is_one_sentence(tmp_path):
    settings = tiny_run.settings(tmp_path, num_layers=1, mesh={"data": 8},
                                 train={"batch_size": 12})  # fmt: skip
    with pytest.raises(SettingsError, match=r"batch_size is 12; it must be a multiple of .* 8 x 1"):
        training.train(settings)
    assert not Path(settings.workdir).exists()
