"""The command that ranks lines."""

import io

import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main

DOCUMENTS = "good word1 word2\n\nbad word3\nword4 good\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rank")
    model, params = tiny.make("bert", "ranking", num_hidden_layers=2)
    model = model.replace(alpha=0.9)
    latadj_jax.save_pretrained(folder / "model", model, params, tiny_run.tokenizer(folder))
    return folder / "model"


def rank(monkeypatch, capsys, folder, *flags, lines=DOCUMENTS) -> list[list[str]]:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    main(["rank", str(folder), "--buckets", "16", *flags])
    return [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]


def test_documents_come_best_first_with_their_lines(monkeypatch, capsys, folder):
    """And a pair of a file scores as the same document of a query does."""
    ranked = rank(monkeypatch, capsys, folder, "--query", "good word9")
    values = [float(score) for score, _, _ in ranked]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3
    lines = DOCUMENTS.split("\n")
    assert {(int(n), text) for _, n, text in ranked} == {(n, lines[n - 1]) for n in (1, 3, 4)}
    assert rank(monkeypatch, capsys, folder, "--query", "good word9", "--top_k", "1") == ranked[:1]
    dense = rank(monkeypatch, capsys, folder, "--query", "good word9", "--alpha", "dense")
    assert dense != ranked

    pairs = "\n".join(f"good word9\t{text}" if text else "" for text in lines[:4])
    scores = rank(monkeypatch, capsys, folder, lines=pairs)
    assert [row[0] for row in scores] == [
        dict((text, score) for score, _, text in ranked).get(text, "") for text in lines[:4]
    ]


@pytest.mark.parametrize(
    ("flags", "lines", "message"),
    [
        ((), "good\tword1\nbad word2\n", "line 2 is not a query and a document with a tab"),
        (("--top_k", "2"), DOCUMENTS, "--top_k and --cut are for the documents of one --query"),
        (("--query", "good"), "\n", "there are no documents to rank"),
        (("--query", "good", "--task", "features"), "", "a model ranks with task 'ranking'"),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, capsys, folder, flags, lines, message):
    with pytest.raises(SystemExit, match=f"^latadj rank: .*{message}"):
        rank(monkeypatch, capsys, folder, *flags, lines=lines)
