"""The command that finds entities in lines."""

import io
import json

import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main

LINES = "good word1 Word2\n\n  bad word4 word5 \n"
NAMES = ("O", "B-x", "I-x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tag")
    names = {str(n): name for n, name in enumerate(NAMES)}
    ids = {name: n for n, name in enumerate(NAMES)}
    model = tiny.make_model(
        "bert", "token-classification", num_hidden_layers=1, id2label=names, label2id=ids
    ).replace(alpha=0.6)
    latadj_jax.save_pretrained(
        folder / "model", model, tiny.random_params(model), tiny_run.tokenizer(folder)
    )
    return folder / "model"


def answers(monkeypatch, capsys, folder, *flags, lines=LINES) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    main(["tag", str(folder), "--buckets", "8", *flags])
    return capsys.readouterr().out.split("\n")[:-1]


def expected(folder, aggregation="simple", alpha=0.6) -> list[list[dict]]:
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    engine = latadj_jax.Engine(model, params, tokenizer, alphas=(None,), buckets=(8,))
    texts = [line.strip() for line in LINES.split("\n")[:-1]]
    return engine.warmup(repeats=1).tag(texts, aggregation, alpha=alpha)


def test_it_prints_the_entities_of_each_line(monkeypatch, capsys, folder):
    found = expected(folder)
    assert found[1] == []
    assert sum(map(len, found)) > 1
    assert answers(monkeypatch, capsys, folder) == [
        "\t".join(f"{e['word']}\t{e['entity_group']}\t{e['score']:.4f}" for e in entities)
        for entities in found
    ]


@pytest.mark.parametrize(
    ("flags", "aggregation", "alpha"),
    [((), "simple", 0.6), (("--aggregation=none", "--alpha=dense"), "none", None)],
)
def test_json_lines_say_where_they_are(monkeypatch, capsys, folder, flags, aggregation, alpha):
    found = [json.loads(line) for line in answers(monkeypatch, capsys, folder, "--json", *flags)]
    assert found == [
        [{**entity, "score": pytest.approx(entity["score"], abs=1e-6)} for entity in entities]
        for entities in expected(folder, aggregation, alpha)
    ]


def test_tokens_are_printed_without_groups(monkeypatch, capsys, folder):
    first, *_ = answers(monkeypatch, capsys, folder, "--aggregation", "none")
    assert set(first.split("\t")[1::3]) <= {"B-x", "I-x"}


def test_longer_lines_are_refused_or_cut(monkeypatch, capsys, folder):
    lines = "good\n" + "word1 " * 20 + "\n"
    with pytest.raises(SystemExit, match=r"^latadj tag: line 2 has 22 tokens, the largest buc"):
        answers(monkeypatch, capsys, folder, lines=lines)
    assert len(answers(monkeypatch, capsys, folder, "--truncate", lines=lines)) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--speedup", "50"), "out of reach"),
        (("--aggregation", "all"), "invalid choice: 'all'"),
        (("--task", "features"), "tags with task 'token-classification'; --task is 'features'"),
        (("--task", "classification"), "."),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, capsys, folder, flags, message):
    with pytest.raises(SystemExit, match=f"^latadj tag: .*{message}"):
        answers(monkeypatch, capsys, folder, *flags)
