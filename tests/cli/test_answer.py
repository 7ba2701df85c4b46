"""The command that answers questions."""

import io
import json

import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer

RECORDS = [
    {"id": "a", "question": "good word1", "context": "word2 word3 bad word4"},
    {"question": "word5", "context": " ".join(f"word{n}" for n in range(30))},
]
LINES = "\n".join(map(json.dumps, RECORDS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    model = tiny.make_model("bert", "question-answering", num_hidden_layers=1).replace(alpha=0.8)
    words = tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, tiny.random_params(model), words)
    return folder / "model"


def answers(monkeypatch, capsys, folder, *flags, lines=LINES) -> list[dict]:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    main(["answer", str(folder), "--buckets", "24", *flags])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(("flags", "alpha"), [((), 0.8), (("--alpha", "dense"), None)])
def test_it_prints_the_engine_s_answer_to_each_question(monkeypatch, capsys, folder, flags, alpha):
    found = answers(monkeypatch, capsys, folder, *flags)
    model, params = from_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    engine = latadj_jax.Engine(model, params, tokenizer, alphas=(alpha,), buckets=(24,))
    expected = engine.warmup(repeats=1).answer(
        *([record[key] for record in RECORDS] for key in ("question", "context")), alpha=alpha
    )
    assert list(found[0]) == ["id", "answer", "score", "start", "end"]
    assert found[0].pop("id") == "a"
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.pop("score") == pytest.approx(theirs.pop("score"), rel=1e-3)
        assert ours == theirs


def test_it_reads_squad_s_layout_from_a_file(monkeypatch, capsys, tmp_path, folder):
    questions = [{"id": f"q{n}", "question": "good", "answers": []} for n in range(2)]
    paragraphs = [{"context": RECORDS[0]["context"], "qas": questions}]
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    found = answers(monkeypatch, capsys, folder, "--input", str(file), "--most_tokens", "1")
    assert [line["id"] for line in found] == ["q0", "q1"]
    assert all(line["answer"] in RECORDS[0]["context"].split() for line in found)


@pytest.mark.parametrize(
    ("flags", "lines", "message"),
    [
        ((), "", "standard input holds no questions"),
        ((), '{"question": "a"}', "standard input, row 1: 'context' must be a text"),
        ((), '{"question": " ", "context": "a"}', "row 1: 'question' must be a text"),
        ((), "good", "row 1: not JSON"),
        (("--most_tokens", "0"), LINES, "must be at least 1"),
        (("--speedup", "50"), LINES, "out of reach"),
        (
            (),
            json.dumps({"question": "good " * 30, "context": "a"}),
            "row 1 has 33 tokens with special ones, which leave no room",
        ),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, capsys, folder, flags, lines, message):
    with pytest.raises(SystemExit, match=f"^latadj answer: .*{message}"):
        answers(monkeypatch, capsys, folder, *flags, lines=lines)


def test_a_model_for_another_task_is_refused(monkeypatch, capsys, tmp_path):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    words = tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "model", model, tiny.random_params(model), words)
    with pytest.raises(SystemExit, match="answers with task 'question-answering'; this is for 'cl"):
        answers(monkeypatch, capsys, tmp_path / "model")
