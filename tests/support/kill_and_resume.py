"""Kills a training run at random moments, over and over, and compares its end with a quiet one's.

    python tests/support/kill_and_resume.py --kills 20

A tiny BERT is trained by train.py's own function in a process that is killed (SIGKILL) again and
again, in loading, calibration, steps, checkpoints, saving or evaluation, then left to finish. Its
parameters, its log and its results must be bit for bit those of a run never interrupted.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PROGRAM = """
import json, logging, sys
logging.basicConfig(level=logging.INFO)
sys.path[:0] = [{here!r}, {root!r}]
from latadj_jax.training.settings import from_config
from latadj_jax.training.train import train
from latadj_jax.training.sigterm import Stopped
try:
    train(from_config(json.loads(open(sys.argv[1]).read())))
except Stopped as stopped:
    print(stopped.message, file=sys.stderr)
    raise
"""


def command(settings: Path) -> list[str]:
    program = PROGRAM.format(here=str(HERE), root=str(ROOT))
    return [sys.executable, "-c", program, str(settings)]


def environment() -> dict[str, str]:
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1",
            "HF_HUB_OFFLINE": "1"}  # fmt: skip


def settings_file(folder: Path, steps: int) -> Path:
    """Settings of a run in `folder`: every epoch has 13 steps, a checkpoint every 7."""
    import tiny_run

    folder.mkdir(parents=True, exist_ok=True)
    train = {"max_steps": steps, "checkpoint_every": 7, "log_every": 3, "keep": 2}
    file = folder / "config.json"
    file.write_text(json.dumps(tiny_run.config(folder, num_layers=2, train=train)))
    return file


def steps_done(run: Path) -> int:
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    try:
        return json.loads(lines[-1])["step"] if lines else 0
    except ValueError:  # a line cut short
        return -1


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    for _ in range(4800):  # a busy machine takes minutes
        if steps_done(run) >= step:
            return
        assert process.poll() is None, "it ended"
        time.sleep(0.05)
    raise AssertionError("it does not get on")


def what_it_left(run: Path) -> dict[str, bytes | list]:
    """What must not depend on interruptions: weights, log, metrics of every alpha."""
    rows = json.loads((run / "results.json").read_text())["rows"]
    return {
        "model.safetensors": (run / "model" / "model.safetensors").read_bytes(),
        "elimination.json": (run / "model" / "elimination.json").read_bytes(),
        "metrics.jsonl": (run / "metrics.jsonl").read_bytes(),
        "metrics": [row["metrics"] for row in rows],
    }


def compare(folder: Path, kills: int, steps: int, seed: int) -> dict:
    """Runs both, and raises AssertionError where they differ; says where the kills fell."""
    quiet, rough = (settings_file(folder / name, steps) for name in ("quiet", "rough"))
    start = time.monotonic()
    subprocess.run(command(quiet), env=environment(), check=True, capture_output=True)
    seconds = time.monotonic() - start
    rng, run, at = random.Random(seed), folder / "rough" / "runs" / "tiny", []
    while len(at) < kills:
        process = subprocess.Popen(
            command(rough), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # One in four while it loads, calibrates or compiles, the others some steps further on; once
        # the training is done, in saving and evaluation.
        early = rng.random() < 0.25
        goal = steps_done(run) + rng.randint(1, max(2, 3 * steps // (2 * kills)))
        end = time.monotonic() + rng.uniform(0, seconds / 2 if early else 2 * seconds)
        while process.poll() is None and time.monotonic() < end:
            if not early and goal <= steps_done(run) < steps:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        killed = process.poll() is None
        process.kill()
        process.wait()
        assert killed or process.returncode == 0, "it failed by itself"
        if killed:
            at.append(steps_done(run))
            print(f"kill {len(at)}: the log was at step {at[-1]}", flush=True)
    subprocess.run(command(rough), env=environment(), check=True, capture_output=True)
    assert not list(run.glob("checkpoints/*.damaged")), "a checkpoint could not be used"
    ours, theirs = what_it_left(run), what_it_left(folder / "quiet" / "runs" / "tiny")
    for name, expected in theirs.items():
        assert ours[name] == expected, f"{name} differs after {kills} kills"
    return {"kills": kills, "steps": steps, "seconds_of_a_quiet_run": round(seconds, 1), "at": at}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.path[:0] = [str(HERE), str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), args.kills, args.steps, args.seed)))
    print("parameters, log and metrics are bit-identical to those of a run never killed")
