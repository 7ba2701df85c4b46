"""The command that classifies lines."""

import io

import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax import classify

LINES = "good word1\n\nbad word2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    model = tiny.make_model("bert", "classification").replace(alpha=0.9)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, params, tokenizer)
    return folder / "model"


def answers(monkeypatch, capsys, folder, *flags) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(LINES))
    classify.main([str(folder), "--buckets", "8", *flags])
    return capsys.readouterr().out.split("\n")[:-1]


def expected(folder, alpha) -> list[str]:
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = classify.load_tokenizer(str(folder))
    lines = []
    for text in LINES.split("\n")[:-1]:
        line = ""
        if text:
            batch = dict(tokenizer(text, return_tensors="np"))
            logits = latadj_jax.apply(model, params, batch, alpha).logits[0]
            line = f"{model.config.labels[int(logits.argmax())]}\t"
        lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("flags", "alpha"),
    [((), 0.9), (("--alpha", "dense"), None), (("--alpha", "0.6"), 0.6)],
)
def test_it_prints_a_label_for_each_line(monkeypatch, capsys, folder, flags, alpha):
    got = answers(monkeypatch, capsys, folder, *flags)
    assert got[1] == ""
    for line, start in zip(got, expected(folder, alpha), strict=True):
        assert line.startswith(start)
        assert not line or 1 / 3 <= float(line.split("\t")[1]) <= 1


def test_a_budget_measures_once_and_keeps_the_times(monkeypatch, capsys, folder):
    got = answers(monkeypatch, capsys, folder, "--latency_ms", "10000")
    assert (folder / classify.LATENCIES).is_file()
    for line, start in zip(got, expected(folder, None), strict=True):
        assert line.startswith(start)  # every budget met: dense


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--alpha", "fast"), "'fast' is neither"),
        (("--speedup", "50"), "out of reach"),
        (("--input", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, capsys, folder, flags, message):
    with pytest.raises(SystemExit, match=message):
        answers(monkeypatch, capsys, folder, *flags)
