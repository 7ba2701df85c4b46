"""train.py and eval.py as a user runs them: bad input is one sentence and exit code 1."""

import os
import subprocess
import sys

import pytest
import tiny_run
from paths import ROOT


def run(folder, *arguments) -> subprocess.CompletedProcess:
    script, *rest = arguments
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, str(ROOT / script), *rest]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


CSV = f"--config={ROOT}/configs/text_csv.py"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config=none.py"], "none.py"),
        (["--config", "config.py"], "No such file or directory: 'config.py'"),
        ([CSV, "--config.train.lr=1"], "train.py: config.train.lr is not a setting"),
        ([CSV, "--config.elimination.alpha=0"], "config.elimination.alpha must be greater than 0"),
    ],
)
def test_train_refuses_in_one_sentence(tmp_path, arguments, sentence):
    """Fails with a traceback, or if anything was written before."""
    if "elimination" in str(arguments):
        arguments = [*arguments, f"--config.data.path={tiny_run.csv(tmp_path)}"]
    result = run(tmp_path, "train.py", *arguments)
    last = result.stderr.strip().split("\n")[-1]
    assert result.returncode == 1
    assert sentence in last
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("runs/*/checkpoints"))


def test_train_then_eval(tmp_path):
    """The two commands of the README, on a tiny model and CSV."""
    arguments = [
        CSV,
        f"--config.model.source={tiny_run.source(tmp_path)}",
        f"--config.data.path={tiny_run.csv(tmp_path)}",
        "--config.data.max_length=24",
        "--config.data.buckets=(24,)",
        "--config.train.max_steps=2",
        "--config.eval.alphas=(0.9,)",
        "--config.eval.timing_repeats=1",
    ]
    trained = run(tmp_path, "train.py", *arguments)
    assert trained.returncode == 0, trained.stderr
    assert "| dense |" in trained.stdout
    assert "runs/text_csv/report.md" in trained.stdout
    assert "2/2" in trained.stderr  # the progress bar
    evaluated = run(tmp_path, "eval.py", "--alpha", "0.8,0.95")
    assert evaluated.returncode == 0, evaluated.stderr
    assert all(f"| {alpha} |" in evaluated.stdout for alpha in ("dense", "0.8", "0.95"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no finished run in runs/"),
        (["--workdir", "none", "--alpha", "0"], "alpha must be finite and greater than 0"),
        (["runs/a"], "'runs/a' is no flag; write e.g. --alpha 0.8,0.9 --workdir FOLDER"),
        (["--mode", "whole"], "--mode needs --text."),
        (["--text", "a", "--layers", "4-19"], "--layers takes numbers, e.g. 4,19"),
        (["--model", "gpt2"], "--model needs --text, --last_words, --export or --explain."),
        (
            ["--model", "a", "--workdir", "b", "--text", "c"],
            "each name a model; give one",
        ),
        (["--text", "a", "--last_words", "b"], "--text and --last_words are different things"),
        (["--model", "a", "--explain", "lins.txt"], "--explain: there is no file 'lins.txt'"),
    ],
)
def test_eval_refuses_in_one_sentence(tmp_path, arguments, sentence):
    result = run(tmp_path, "eval.py", *arguments)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_eval_of_an_unfinished_run_says_so(tmp_path):
    """Fails if the folder of an unfinished run is taken for a hub id."""
    (tmp_path / "myrun/model").mkdir(parents=True)
    (tmp_path / "myrun" / "settings.json").write_text(
        '{"workdir": "myrun", "data": {"path": "a.csv"}}'
    )
    for more in ([], ["--explain", "good"]):
        result = run(tmp_path, "eval.py", "--workdir", "myrun", *more)
        assert result.returncode == 1
        assert "myrun has no model yet: its run has not finished" in result.stderr


def test_export_writes_programs_of_a_model(tmp_path):
    source = tiny_run.source(tmp_path)
    flags = ["--model", source, "--alpha", "0.8", "--buckets", "8", "--export", "out"]
    exported = run(tmp_path, "eval.py", *flags)
    assert exported.returncode == 0, exported.stderr
    assert "| length8_dense.jax | 1.00 |\n| length8_alpha0.8.jax |" in exported.stdout
    assert (tmp_path / "out" / "length8_alpha0.8.jax").stat().st_size > 1000
    again = run(tmp_path, "eval.py", *flags)
    assert again.returncode == 1
    assert again.stderr.strip().split("\n")[-1] == (
        "eval.py: out is not empty; export into a new folder."
    )
    causal = run(tmp_path, "eval.py", *flags[:-1], "new", "--strategy", "recall")
    assert causal.returncode == 1
    assert "strategy 'recall' is for other models; bert has: score, " in causal.stderr
    assert not (tmp_path / "new").exists()
