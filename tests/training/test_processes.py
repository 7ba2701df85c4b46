"""Two processes are one run: they train, evaluate, stop, go on and fail together."""

import functools
import inspect
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import jax
import kill_and_resume
import pytest
import tiny
import tiny_run
import tiny_text
from paths import ROOT

import latadj_jax
from latadj_jax.devices import processes
from latadj_jax.training import train
from latadj_jax.training.checkpoints import Checkpoints
from latadj_jax.training.settings import from_config

TRAIN = ROOT / "train.py"
CONFIG = """
import json
from pathlib import Path
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(json.loads(Path(__file__).with_suffix(".json").read_text()))
"""
# train.py, after some lines of a test's own.
AFTER = """
import runpy, sys
process = int(sys.argv[-1])
{before}
sys.argv[0] = {train!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def start():
    """A function that starts both processes of a run; what is left of them is killed."""
    started = []

    def processes_of(file: Path, before: str = "") -> list[subprocess.Popen]:
        program = AFTER.format(before=before, train=str(TRAIN))
        address = free_address()
        both = [start_one(file, n, program, address) for n in range(2)]
        started.extend(both)
        return both

    yield processes_of
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.reader.wait()


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def stderr_of(file: Path, process: int) -> Path:
    return file.with_name(f"stderr{process}.txt")


def start_one(file: Path, process: int, program: str, address: str) -> subprocess.Popen:
    """Its errors go through a pipe that is read at all times: no limit of its own is on that."""
    environment = {**kill_and_resume.environment(), "JAX_NUM_CPU_DEVICES": "2"}
    with stderr_of(file, process).open("w") as opened:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=opened)
    with reader.stdin:
        one = subprocess.Popen(
            [sys.executable, "-c", program, "--config", str(file), "--coordinator", address,
             "--num_processes", "2", "--process_id", str(process)],
            env=environment, stdout=subprocess.DEVNULL, stderr=reader.stdin,
        )  # fmt: skip
    one.reader = reader
    return one


def ended(both: list[subprocess.Popen], timeout: float = 300) -> list[str]:
    """What both have written, when they have ended."""
    for process in both:
        process.wait(timeout)
        process.reader.wait(timeout)
    file = Path(both[0].args[4])
    return [stderr_of(file, n).read_text() for n in range(2)]


def settings_file(folder: Path, **train) -> Path:
    return saved(
        folder, tiny_run.config(folder, num_layers=2, train={"checkpoint_every": 5, **train})
    )


def saved(folder: Path, values: dict) -> Path:
    (folder / "config.json").write_text(json.dumps({**values, "mesh": {"data": 2, "fsdp": 2}}))
    file = folder / "config.py"
    file.write_text(CONFIG)
    return file


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def lm_config(folder: Path) -> dict:
    (folder / "text.txt").write_text(tiny_text.story(0, num_lines=100))
    scratch = {"vocab_size": 300, "hidden_size": 32, "num_layers": 2, "num_heads": 2,
               "max_positions": 48}  # fmt: skip
    return {
        "workdir": str(folder / "runs" / "tiny"),
        "model": {"source": "", "task": "lm", "dropout": 0.0, "scratch": scratch},
        "data": {"path": str(folder / "text.txt"), "eval_fraction": 0.2},
        "lm": {"window": 32, "stride": 16, "context": 24, "continuation": 8, "max_windows": 7},
        "elimination": {"alpha": 0.8, "calibration_examples": 8},
        "train": {"batch_size": 8, "max_steps": 4, "log_every": 2},
        "eval": {"metrics": ("perplexity",), "alphas": (0.8,), "batch_size": 4,
                 "timing_repeats": 1},
    }  # fmt: skip


def seq2seq_config(folder: Path) -> dict:
    return tiny_run.seq2seq_config(
        folder,
        elimination={"calibration_examples": 8},
        train={"max_steps": 4, "log_every": 2},
        eval={"batch_size": 8},
    )


def classification_config(folder: Path) -> dict:
    train = {"max_steps": 10, "evaluate_every": 5, "checkpoint_every": 5,
             "generator": "threefry2x32"}  # fmt: skip
    return tiny_run.config(folder, num_layers=2, train=train)


def taught_config(folder: Path) -> dict:
    """No labels: the model answers itself. Its head is random."""
    model = tiny.make_model(task="classification", num_hidden_layers=2)
    words = tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "fine", model, tiny.random_params(model), words)
    train = {"max_steps": 4, "learning_rate": 1e-3}
    values = tiny_run.config(folder, num_layers=2, train=train)
    values["model"] = {"source": str(folder / "fine"), "dropout": 0.0}
    values["data"]["label_column"] = ""
    return values


def without_times(value):
    """Results but for what is measured by the clock or says where it ran."""
    if isinstance(value, dict):
        clock = ("_ms", "measured", "device", "seconds", "tokens_per_second")
        return {k: without_times(v) for k, v in value.items() if not any(c in k for c in clock)}
    return [without_times(v) for v in value] if isinstance(value, list) else value


# Of sums in another order. A loss near 0 is what is left of logits of about 10, whose last place is
# 1e-6: its rounding is no share of it.
close = functools.partial(pytest.approx, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "config", [classification_config, taught_config, lm_config, seq2seq_config]
)
def test_two_processes_train_save_and_evaluate_as_one(tmp_path, start, config):
    """Batches in parts, logs by the first, a model that loads; the numbers of one device."""
    folders = [tmp_path / "two", tmp_path / "one"]
    for folder in folders:
        folder.mkdir()
    both = start(saved(folders[0], config(folders[0])))
    outputs = ended(both, 500)
    assert [process.returncode for process in both] == [0, 0], outputs
    train.train(from_config({**config(folders[1]), "mesh": {"data": 1}}))
    results = [
        without_times(json.loads((f / "runs" / "tiny" / "results.json").read_text()))
        for f in folders
    ]
    assert results[0].keys() == results[1].keys()
    for ours, theirs in zip(results[0]["rows"], results[1]["rows"], strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["metrics"].keys() == theirs["metrics"].keys()
        for name, metrics in theirs["metrics"].items():
            assert ours["metrics"][name] == close(metrics)
    logs = [
        [json.loads(x) for x in (f / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()]
        for f in folders
    ]
    for ours, theirs in zip(*logs, strict=True):
        assert ours == close(theirs)


def test_sigterm_to_one_stops_both_and_both_go_on_to_the_same_end(tmp_path, start):
    (tmp_path / "stopped").mkdir()
    (tmp_path / "quiet").mkdir()
    train = {"max_steps": 60, "log_every": 1, "checkpoint_every": 20}
    file = settings_file(tmp_path / "stopped", **train)
    run = tmp_path / "stopped" / "runs" / "tiny"
    both = start(file)
    kill_and_resume.wait_for_step(run, 7, both[0])
    both[1].send_signal(signal.SIGTERM)
    ended(both)
    assert [process.returncode for process in both] == [128 + signal.SIGTERM] * 2
    stopped_at = max(int(f.name) for f in (run / "checkpoints").glob("[0-9]*"))
    assert 7 <= stopped_at < 60

    both = start(file)
    outputs = ended(both)
    assert [process.returncode for process in both] == [0, 0], outputs
    assert f"Going on from step {stopped_at} of 60" in outputs[0]
    quiet = start(settings_file(tmp_path / "quiet", **train))
    outputs = ended(quiet)
    assert [process.returncode for process in quiet] == [0, 0], outputs
    assert losses_of(run) == losses_of(tmp_path / "quiet" / "runs" / "tiny")
    weights = [
        (tmp_path / name / "runs" / "tiny" / "model" / "model.safetensors").read_bytes()
        for name in ("stopped", "quiet")
    ]
    assert weights[0] == weights[1]


UNREADABLE = """
import orbax.checkpoint as ocp
restore = ocp.StandardCheckpointHandler.restore
def fails_at_10(self, folder, *args, **kwargs):
    if process == 1 and folder.parent.name == "10":
        raise OSError("a shard that cannot be read")
    return restore(self, folder, *args, **kwargs)
ocp.StandardCheckpointHandler.restore = fails_at_10
"""


def test_what_one_of_two_cannot_read_both_put_aside(tmp_path, start):
    file = settings_file(tmp_path, max_steps=10, log_every=1)
    run = tmp_path / "runs" / "tiny"
    for before in ("", UNREADABLE):
        both = start(file, before)
        outputs = ended(both)
        assert [process.returncode for process in both] == [0, 0], outputs
    for process, output in enumerate(outputs):
        assert "checkpoint 10 cannot be read" in output, (process, output)
        assert "Going on from step 5 of 10" in output
    assert (run / "checkpoints" / "10.damaged").is_dir()
    assert (run / "checkpoints" / "10").is_dir()  # written again


def test_data_that_one_of_two_cannot_find_ends_both_before_a_teacher_is_asked(tmp_path, start):
    values = taught_config(tmp_path)
    values["data"]["path"] = Path(values["data"]["path"]).name
    (tmp_path / "elsewhere").mkdir()
    before = f"import os\nos.chdir([{str(tmp_path)!r}, {str(tmp_path / 'elsewhere')!r}][process])"
    both = start(saved(tmp_path, values), before)
    outputs = ended(both, timeout=200)
    assert [process.returncode for process in both] == [1, 1], outputs
    for output in outputs:
        assert "there is no such folder or file" in output


def test_a_folder_in_use_ends_both(tmp_path, start):
    file = settings_file(tmp_path)
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    with filelock.FileLock(run / ".lock"):
        both = start(file)
        first, second = ended(both, timeout=90)
    assert [process.returncode for process in both] == [1, 1]
    assert "is in use by another run" in first
    assert "process 0 failed: config.workdir" in second
    assert "is in use by another run" in second


DISK_FULL = """
import resource, signal
from latadj_jax.training import checkpoints
checkpoints.PATIENCE = 5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if process == {process}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("process", [0, 1])
def test_a_disk_that_is_full_for_one_ends_both(tmp_path, start, process):
    """A limit on file sizes stands for the disk: writing a checkpoint fails."""
    file = settings_file(tmp_path, max_steps=40)
    both = start(file, DISK_FULL.format(process=process))
    outputs = ended(both)
    assert all(p.returncode for p in both), outputs
    assert "too large" in outputs[process].lower() or "writing" in outputs[process].lower()
    assert not (tmp_path / "runs" / "tiny" / "model").exists()


HEARTBEAT = """
import functools, jax
jax.distributed.initialize = functools.partial(
    jax.distributed.initialize, heartbeat_timeout_seconds=10
)
"""


def test_when_one_process_of_two_dies_the_other_ends_and_nothing_saved_is_lost(tmp_path, start):
    """After jax's heartbeat timeout: 10 seconds here, 100 by default, as docs/scaling.md says."""
    own = inspect.signature(jax.distributed.initialize).parameters["heartbeat_timeout_seconds"]
    assert own.default == 100
    file = settings_file(tmp_path, max_steps=4000)
    run = tmp_path / "runs" / "tiny"
    both = start(file, HEARTBEAT)
    kill_and_resume.wait_for_step(run, 20, both[0])
    both[1].kill()
    both[0].wait(200)
    assert both[0].returncode != 0
    steps = [int(f.name) for f in (run / "checkpoints").glob("[0-9]*") if f.name.isdigit()]
    assert max(steps) >= 10
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.newest == max(steps)
    checkpoints.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_processes": 2}, "need --coordinator=HOST:PORT"),
        ({"coordinator": "localhost:1", "num_processes": 2}, "--process_id is -1.*0 to 1"),
        ({"coordinator": "localhost:1"}, "--coordinator needs --num_processes and --process_id"),
        ({"coordinator": "localhost:1", "cluster": True}, "leave out --coordinator"),
        ({"num_processes": 2, "process_id": 0, "cluster": True}, "leave out .*--process_id"),
    ],
)
def test_flags_of_processes_that_do_not_go_together(flags, message):
    with pytest.raises(ValueError, match=message):
        processes.join(**flags)
