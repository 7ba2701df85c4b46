"""The commands, called in this process; and each door once as a user opens it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tiny
import tiny_run
from paths import ROOT
from refused import refused

import latadj_jax
from latadj_jax.cli.main import COMMANDS, call, main
from latadj_jax.cli.train import config_file, read_settings
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.training.run_folder import load_settings

CSV = f"--config={ROOT}/configs/text_csv.py"
EXPLAIN = ["--explain", "good"]


# ---- doors ------------------------------------------------------------------------------------


def open_door(folder, *command) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_train_then_eval(tmp_path):
    """train.py and eval.py of the README, on a tiny model and CSV."""
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
    trained = open_door(tmp_path, ROOT / "train.py", *arguments)
    assert trained.returncode == 0, trained.stderr
    assert "| dense |" in trained.stdout
    assert "runs/text_csv/report.md" in trained.stdout
    assert "2/2" in trained.stderr  # the progress bar
    assert "test 12" in trained.stderr  # the log
    flags = ["--alpha", "0.8,0.95", "--speedup", "1.5"]
    evaluated = open_door(tmp_path, ROOT / "eval.py", *flags)
    assert evaluated.returncode == 0, evaluated.stderr
    assert all(f"| {alpha} |" in evaluated.stdout for alpha in ("dense", "0.8", "0.95"))

    # The speedup is that of all texts together, each by its own length.
    ((speedup, alpha),) = json.loads((tmp_path / "runs/text_csv/eval.json").read_text())["asked"]
    assert f"Speedup 1.5 is alpha {alpha:g}." in evaluated.stdout
    model, _ = latadj_jax.from_pretrained(tmp_path / "runs/text_csv/model")
    tokenizer = latadj_jax.load_tokenizer(str(tmp_path / "runs/text_csv/model"))
    texts = load_examples(load_settings(tmp_path / "runs/text_csv").data, model.record)[1][
        "test"
    ].texts
    lengths = [len(tokenizer(*text)["input_ids"]) for text in texts]
    assert len({*lengths}) > 3

    def of_all(alpha):
        return sum(lengths) / sum(n / expected_speedup(model.plan(alpha, n)) for n in lengths)

    assert of_all(alpha) >= speedup == 1.5 > of_all(alpha * 1.0001)


def test_the_command_opens_and_refuses(tmp_path):
    refusal = open_door(tmp_path, "-m", "latadj_jax.cli", "evaluate", "--workdir", "none")
    assert (refusal.returncode, refusal.stdout) == (1, "")
    assert refusal.stderr.startswith("latadj evaluate: none is not the folder of a run (no ")
    assert refusal.stderr.count("\n") == 1


def test_help_and_version_import_nothing_heavy(tmp_path):
    program = """
import sys
from latadj_jax.cli.main import main
main(["--help"])
main(["--version"])
assert not {"jax", "numpy", "absl", "transformers"} & {*sys.modules}
"""
    done = open_door(tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.endswith(f"latadj {latadj_jax.__version__}\n")


def test_commands_do_not_say_that_torch_is_missing(monkeypatch):
    """transformers would, and that no model can be used without it; here none needs it."""
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(SystemExit):
        main(["embed"])
    assert os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] == "1"


def test_an_unknown_command_names_those_there_are():
    assert refused(main, ["clasify"]).startswith(
        "latadj: 'clasify' is no command; there are: train, adapt, search, evaluate, "
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: latadj {name} [-h] ")


@pytest.mark.parametrize(
    ("flags", "command", "passed"),
    [
        ([], "evaluate", []),
        (["--alpha", "0.9", "--workdir=a"], "evaluate", ["--alpha", "0.9", "--workdir=a"]),
        (["--model=m", "--text", "t", "--mode=whole"], "perplexity",
         ["--model=m", "--mode=whole", "--", "t"]),
        (["--last_words=t", "--layers", "4,19"], "last-words", ["--layers", "4,19", "--", "t"]),
        (["--alpha=0.9", "--export", "f", "--buckets=8"], "export",
         ["--alpha=0.9", "--buckets=8", "--", "f"]),
        (["--html", "p", "--explain=-a text"], "explain", ["--html", "p", "--", "-a text"]),
    ],
)  # fmt: skip
def test_eval_py_calls_the_command_that_its_flags_ask_for(
    eval_door, monkeypatch, flags, command, passed
):
    called = []
    monkeypatch.setattr(eval_door, "call", lambda *arguments: called.append(arguments))
    eval_door.main(flags)
    assert called == [(command, passed, "eval.py")]


# ---- train ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name a config, e.g. --config quickstart"),
        (["--config=none.py"], "there is no config file 'none.py'"),
        (["--config", "config.py"], "there is no config file 'config.py'"),
        (["--config", "quickstar"], "there is no config 'quickstar'; name a file, or one of: "),
        ([CSV, "runs/a"], "'runs/a' is no flag; settings are --config.KEY=VALUE"),
        ([CSV, "--workdir=a"], "Unknown command line flag 'workdir'"),
        ([CSV, "--config.train.lr=1"], "config.train.lr is not a setting"),
        ([CSV, "--config.train.epochs=many"], "many"),
        ([CSV, "--config.elimination.alpha=0"], "config.elimination.alpha must be greater than 0"),
        ([CSV, "--config.data.path=a.csv", "--process_id", "0"], "need --coordinator=HOST:PORT"),
    ],
)
def test_train_refuses_in_one_sentence(folder, arguments, sentence):
    """Fails with a traceback, or if anything was written before."""
    if "elimination" in str(arguments):
        arguments = [*arguments, f"--config.data.path={tiny_run.csv(folder)}"]
    refusal = refused(call, "train", arguments, "train.py")
    assert refusal.startswith("train.py: ")
    assert sentence in refusal
    assert not list(folder.glob("runs/*/checkpoints"))


def test_every_setting_is_a_flag(folder):
    """Fails where a flag of one kind is read as another, or given to the wrong setting."""
    flags = [
        "--config.data.path=a.csv", "--config.train.batch_size", "16",
        "--config.data.labels=0,1", "--config.train.remat", "--config.mesh.data=-1",
        "--config.eval.alphas=(0.9,0.8)", "--config.train.learning_rate=1e-3",
    ]  # fmt: skip
    settings = read_settings("text_csv", flags)
    assert settings == read_settings(str(ROOT / "configs/text_csv.py"), flags)
    assert (settings.workdir, settings.data.path) == ("runs/text_csv", "a.csv")
    assert settings.data.labels == ("0", "1")
    assert (settings.train.batch_size, settings.train.remat) == (16, True)
    assert (settings.mesh.data, settings.train.learning_rate) == (-1, 1e-3)
    assert settings.eval.alphas == (0.9, 0.8)


def test_configs_are_found_beside_the_package_and_in_it(tmp_path, monkeypatch):
    """A clone has the folder beside the package, a wheel inside of it."""
    found = Path(config_file("quickstart"))  # of the package that is tested, wherever it is
    assert found.read_text() == (ROOT / "configs/quickstart.py").read_text()
    monkeypatch.setattr(latadj_jax, "__file__", str(ROOT / "latadj_jax/__init__.py"))
    assert config_file("quickstart") == str(ROOT / "configs/quickstart.py")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = tmp_path / wheel["force-include"]["configs"]
    inside.mkdir(parents=True)
    (inside / "mine.py").touch()
    monkeypatch.setattr(latadj_jax, "__file__", str(tmp_path / "latadj_jax/__init__.py"))
    assert config_file("mine") == str(inside / "mine.py")


# ---- evaluate, perplexity, last-words ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "there is no finished run in runs/"),
        (["--workdir", "none", "--alpha", "0"], "alpha must be finite and greater than 0"),
        (
            ["--speedup", "fast"],
            "argument --speedup: takes numbers, e.g. 1.5,2; 'fast' is not",
        ),
        (["runs/a"], "'runs/a' is no flag here; eval.py --help lists them."),
        (["--mode", "whole"], "--mode needs --text."),
        (["--batch_size=2", "--export=a"], "--batch_size needs --text or --last_words."),
        (["--text", "a", "--layers", "4-19"], "--layers: takes numbers, e.g. 32,64; '4-19' is"),
        (["--model", "gpt2"], "--model needs --text or --last_words or --export or --explain."),
        (["--model", "a", "--workdir", "b", "--text", "c"], "--workdir: not allowed with argument"),
        (["--text", "a", "--last_words", "b"], "--last_words: not allowed with argument --text"),
        (["--text= "], "--text is empty; it needs a file, a folder or a text."),
        (["--model", "a", "--explain", "lins.txt"], "there is no file 'lins.txt' to explain."),
        (["--text", "a", "--context", "0"], "argument --context: must be at least 1; it is '0'."),
    ],
)
def test_eval_refuses_in_one_sentence(folder, eval_door, arguments, sentence):
    refusal = refused(eval_door.main, arguments)
    assert refusal.startswith("eval.py: ")
    assert sentence in refusal


def test_eval_of_an_unfinished_run_says_so(folder, eval_door):
    """Fails if the folder of an unfinished run is taken for a hub id."""
    (folder / "myrun/model").mkdir(parents=True)
    (folder / "myrun" / "settings.json").write_text(
        '{"workdir": "myrun", "data": {"path": "a.csv"}}'
    )
    for more in ([], EXPLAIN):
        refusal = refused(eval_door.main, ["--workdir", "myrun", *more])
        assert "myrun has no model yet: its run has not finished" in refusal


def test_perplexity_and_last_words_of_a_file(folder, capsys, tokenizer):
    model = tiny.make_model("gpt2", "lm", vocab_size=310)
    latadj_jax.save_pretrained(folder / "model", model, tiny.random_params(model), tokenizer)
    (folder / "text.txt").write_text("the old river stone and the long way home. " * 20)
    (folder / "words.jsonl").write_text('{"text": "the old river stone and the long way home"}\n')
    flags = ["--model", "model", "--batch_size", "2"]
    windows = ["--context", "16", "--continuation", "4", "--max_windows", "2"]
    main(["perplexity", "text.txt", *flags, "--speedup", "1.5", *windows])
    printed = capsys.readouterr().out
    assert printed.startswith("model\n\n| alpha | perplexity | ")
    assert re.search(r"\| dense \|.*\n\| \d\.\d+ \|", printed)
    assert re.search(r"\n\nSpeedup 1\.5 is alpha \d\.\d+\.\n\n", printed)
    main(["last-words", "words.jsonl", *flags, "--alpha", "0.9", "--layers", "2"])
    printed = capsys.readouterr().out
    assert printed.startswith("model\n\n| alpha | accuracy | perplexity | ")
    assert "| 0.9 |" in printed


# ---- explain ----------------------------------------------------------------------------------


def test_explain_writes_a_page_of_a_file_s_lines(folder, eval_door, capsys):
    model, params = tiny.make("bert", "classification")
    latadj_jax.save_pretrained(folder / "model", model, params, tiny_run.tokenizer(folder))
    (folder / "lines.txt").write_text("word1 good\n\nword2 bad word3\n")
    flags = ["--model=model", "--html=page.html"]

    eval_door.main([*flags, "--explain=lines.txt", "--alpha=0.7"])
    assert capsys.readouterr().out == "page.html\n"
    page = folder / "page.html"
    data = re.search(r'<script id="data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)[1]
    found = json.loads(data)
    assert [setting["alpha"] for setting in found["settings"]] == [None, 0.7]
    assert ["".join(own for _, own in text["pieces"]) for text in found["texts"]] == [
        "[CLS]word1good[SEP]", "[CLS]word2badword3[SEP]",
    ]  # fmt: skip
    page.unlink()
    for arguments, sentence in (
        ([f"--explain={folder}"], "is a folder"),
        (["--explain=word1", "--html=none/page.html"], "cannot be written"),
        (["--explain="], "--explain is empty"),
    ):
        assert sentence in refused(eval_door.main, [*flags, *arguments])
        assert not page.exists()
