"""The command that searches collections, or ranks their candidates."""

import numpy as np
import pytest
import tiny
import tiny_run
from beir_files import write

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.families.pooling import Embedding, NormalizeStep

CORPUS = [{"_id": f"d{n}", "title": "", "text": f"word{n} {('good', 'bad')[n % 2]}"}
          for n in range(12)] + [{"_id": "empty", "title": "", "text": " "}]  # fmt: skip
QUERIES = [{"_id": "q1", "text": "good word2"}, {"_id": "q2", "text": "bad word5"}]
QRELS = "q1\td2\t1\nq1\td4\t1\nq2\td5\t1\n"
RUN = "".join(f"{q} Q0 d{n} {n + 1} {9 - n} bm25\n" for q in ("q1", "q2") for n in range(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval")
    tokenizer = tiny_run.tokenizer(folder)
    for task in ("embedding", "ranking"):
        model = tiny.make_model("bert", task, num_hidden_layers=2)
        if task == "embedding":
            prompts = (("query", "word9 "),)
            spec = Embedding(prompts=prompts, include_prompt=False, steps=(NormalizeStep(),))
            model = model.replace(config=model.config.replace(embedding=spec))
        model = model.replace(alpha=0.8, strategy="merge")
        latadj_jax.save_pretrained(folder / task, model, tiny.random_params(model), tokenizer)
    (folder / "data").mkdir()
    write(folder / "data", CORPUS, QUERIES, QRELS, RUN)
    return folder


def retrieval(capsys, folder, task, *flags) -> list[str]:
    """The row of each alpha: dense first."""
    main(["retrieval", str(folder / "data"), "--model", str(folder / task), "--max_length", "16",
          "--batch_size", "4", *flags])  # fmt: skip
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_documents_are_found_as_their_embeddings_say(capsys, folder):
    rows = retrieval(capsys, folder, "embedding", "--query_prompt", "query", "--speedup", "1.2")
    assert rows[0][:4] == ["alpha", "map", "mrr", "ndcg"]
    model, params = latadj_jax.from_pretrained(folder / "embedding")
    tokenizer = latadj_jax.load_tokenizer(str(folder / "embedding"))

    engine = latadj_jax.Engine(model, params, tokenizer, alphas=(None,), buckets=(16,))
    engine.warmup(repeats=1)
    documents = engine([record["text"] for record in CORPUS[:-1]], alpha=None)
    expected = []
    for query, relevant in (("good word2", {2, 4}), ("bad word5", {5})):
        vector = engine([query], alpha=None, prompt="query")[0]  # whose prompt is not pooled
        order = np.argsort(-documents @ vector).tolist()
        places = sorted(1 + order.index(n) for n in relevant)
        ideal = sum(1 / np.log2(n + 2) for n in range(len(relevant)))
        gain = sum(1 / np.log2(place + 1) for place in places if place <= 10)
        precision = np.mean([(n + 1) / place for n, place in enumerate(places)])
        expected.append((precision, 1 / places[0], gain / ideal))
    assert rows[1][:4] == ["dense", *(f"{value:.4f}" for value in np.mean(expected, axis=0))]


def test_candidates_are_ranked_in_pairs(capsys, folder):
    run = str(folder / "data/run.trec")
    rows = retrieval(capsys, folder, "ranking", "--candidates", run)
    assert [row[0] for row in rows[:3]] == ["alpha", "dense", "0.8"]  # the model's own
    model, params = latadj_jax.from_pretrained(folder / "ranking")
    tokenizer = latadj_jax.load_tokenizer(str(folder / "ranking"))
    found = []
    for query, relevant in (("good word2", {2, 4}), ("bad word5", {5})):
        pairs = [(query, record["text"]) for record in CORPUS[:6]]
        batch = dict(tokenizer(*zip(*pairs, strict=True), return_tensors="np"))
        logits = np.asarray(latadj_jax.apply(model, params, batch).logits[:, 0])
        order = np.argsort(-logits).tolist()
        found.append(1 / min(1 + order.index(n) for n in relevant))
    assert rows[1][2] == f"{np.mean(found):.4f}"


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("embedding", ("--task", "ranking"), "without them one of 'embedding' searches"),
        ("embedding", ("--query_prompt", "quary"), "prompt 'quary' is not the model's"),
        ("ranking", ("--candidates", "run.trec", "--query_prompt", "x"), "prompts are for embeddi"),
        ("embedding", ("--split", "dev"), r"has no file 'qrels/dev\.tsv'"),
        ("embedding", ("--max_length", "99"), "99 is longer than the model's 40 positions"),
    ],
)
def test_bad_input_gets_one_sentence(capsys, folder, task, flags, message):
    with pytest.raises(SystemExit, match=f"^latadj retrieval: .*{message}"):
        retrieval(capsys, folder, task, *flags)
