"""The command that classifies lines."""

import io
import json
import shutil

import jax
import numpy as np
import pytest
import tiny
import tiny_run
from safetensors.numpy import load_file, save_file

import latadj_jax
from latadj_jax.cli import classify
from latadj_jax.cli.main import main
from latadj_jax.pretrained.tokenizers import load_tokenizer

LINES = "good word1 word2 word3\n\nbad word4 word5\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    model = tiny.make_model("bert", "classification", num_hidden_layers=2).replace(alpha=0.9)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, params, tokenizer)
    return folder / "model"


def answers(monkeypatch, capsys, folder, *flags) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(LINES))
    main(["classify", str(folder), "--buckets", "8", *flags])
    return capsys.readouterr().out.split("\n")[:-1]


def assert_answers(got: list[str], folder, alpha) -> None:
    """The label and its probability of each line, by `apply`; nothing for the empty line."""
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    assert len(got) == 3
    assert got[1] == ""
    for line, answer in zip(LINES.split("\n"), got, strict=False):
        if line:
            batch = dict(tokenizer(line, return_tensors="np"))
            probs = np.asarray(jax.nn.softmax(latadj_jax.apply(model, params, batch, alpha).logits))
            label, probability = answer.split("\t")
            assert label == model.config.labels[int(probs[0].argmax())]
            assert float(probability) == pytest.approx(probs[0].max(), abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "alpha"),
    [((), 0.9), (("--alpha", "dense"), None), (("--alpha", "0.6"), 0.6)],
)
def test_it_prints_a_label_for_each_line(monkeypatch, capsys, folder, flags, alpha):
    assert_answers(answers(monkeypatch, capsys, folder, *flags), folder, alpha)


def test_a_budget_measures_once_and_keeps_the_times(monkeypatch, capsys, folder):
    got = answers(monkeypatch, capsys, folder, "--latency_ms", "10000")
    assert (folder / classify.LATENCIES).is_file()
    assert_answers(got, folder, None)  # every budget is met: dense


def test_a_budget_for_a_model_that_can_hardly_be_faster(monkeypatch, capsys, tmp_path, folder):
    """Its profile reaches 1.5 at no alpha."""
    model, params = latadj_jax.from_pretrained(folder)
    model = model.replace(profile=latadj_jax.Profile.at_layers(2, (2,)))
    tokenizer = load_tokenizer(str(folder))
    latadj_jax.save_pretrained(tmp_path / "model", model, params, tokenizer)
    got = answers(monkeypatch, capsys, tmp_path / "model", "--latency_ms", "10000")
    assert_answers(got, tmp_path / "model", None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--alpha", "fast"), "'fast' is neither"),
        (("--speedup", "50"), "out of reach"),
        (("--input", "nowhere.txt"), "nowhere.txt"),
        (("--speedup", "1.1", "--infeasible", "fastest"), "--infeasible needs --latency_ms"),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, capsys, folder, flags, message):
    with pytest.raises(SystemExit, match=f"^latadj classify: .*{message}"):
        answers(monkeypatch, capsys, folder, *flags)


def test_buckets_that_are_no_numbers_are_named(monkeypatch, capsys, folder):
    with pytest.raises(SystemExit, match=r"--buckets: takes numbers, e.g. 32,64; 'a' is not one."):
        answers(monkeypatch, capsys, folder, "--buckets", "8,a")


def test_a_broken_byte_is_one_character_of_its_line(monkeypatch, capsys, tmp_path, folder):
    (tmp_path / "lines.txt").write_bytes(b"good\ncaf\xe9 word1\n")
    got = answers(monkeypatch, capsys, folder, "--input", str(tmp_path / "lines.txt"))
    assert len(got) == 2


def test_the_task_may_be_said_where_the_checkpoint_does_not(monkeypatch, capsys, tmp_path, folder):
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    del config["architectures"]
    file.write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=r"is for 'features'; classify needs a head"):
        answers(monkeypatch, capsys, tmp_path / "model")
    named = answers(monkeypatch, capsys, tmp_path / "model", "--task", "classification")
    assert named == answers(monkeypatch, capsys, folder)


def test_unknown_tensors_pass_if_that_is_wanted(monkeypatch, capsys, tmp_path, folder):
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    extra = {"bert.rm_head.weight": np.zeros((1, 32), np.float32)}
    save_file({**load_file(file), **extra}, file)
    with pytest.raises(
        SystemExit, match=r"unexpected: rm_head\.weight\. .*: strict=False, --no-st"
    ):
        answers(monkeypatch, capsys, tmp_path / "model")
    passed = answers(monkeypatch, capsys, tmp_path / "model", "--no-strict")
    assert passed == answers(monkeypatch, capsys, folder)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_a_line_that_is_too_long_is_named_by_its_place_in_the_file(folder, at_once):
    engine = latadj_jax.Engine(
        *latadj_jax.from_pretrained(folder), load_tokenizer(str(folder)), buckets=(8,)
    )
    engine.warmup(repeats=1)
    lines = ["good", "", "bad", "", "", "word1 " * 9, "good"]
    with pytest.raises(ValueError, match=r"^line 6 has 11 tokens, the largest bucket 8"):
        list(classify.classify(engine, lines, at_once))
