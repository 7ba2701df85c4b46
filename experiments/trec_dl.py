"""TREC Deep Learning passages as a collection of BEIR, with the candidates that BM25 found.

    python experiments/trec_dl.py $DATA/msmarco-dl runs/dl19
    latadj retrieval runs/dl19 --model MODEL --candidates runs/dl19/bm25.trec --speedup 2,3

Reads dl19.bm25.top100.json (rank_llm's layout: queries with "hits") and NIST's
qrels.dl19-passage.txt. Judged passages that are no candidates have no text here; they count in the
ideal ranking. nDCG takes NIST's grades; MAP and MRR of the report call every grade above 0
relevant, where TREC begins at 2.
"""

import json
import sys
from pathlib import Path

import numpy as np

from latadj_jax.data.beir import read_candidates, read_collection
from latadj_jax.data.text_files import decode
from latadj_jax.evaluation.retrieval import judge


def main(source: Path, out: Path) -> None:
    found = json.loads(decode(source / "dl19.bm25.top100.json"))
    grades = [
        line.split() for line in decode(source / "qrels.dl19-passage.txt").split("\n") if line
    ]
    queries = {str(one["hits"][0]["qid"]): one["query"] for one in found}
    texts = {str(hit["docid"]): hit["content"] for one in found for hit in one["hits"]}
    judged = [(q, doc, grade) for q, _, doc, grade in grades if q in queries]
    texts |= {doc: "" for _, doc, _ in judged if doc not in texts}
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    _write(out / "corpus.jsonl", [json.dumps({"_id": k, "text": t}) for k, t in texts.items()])
    _write(out / "queries.jsonl", [json.dumps({"_id": k, "text": t}) for k, t in queries.items()])
    rows = ["\t".join(row) for row in judged]
    _write(out / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *rows])
    hits = [hit for one in found for hit in one["hits"]]
    _write(out / "bm25.trec", [
        f"{hit['qid']} Q0 {hit['docid']} {hit['rank']} {hit['score']} bm25" for hit in hits
    ])  # fmt: skip
    print(f"{len(queries)} queries, {len(hits)} candidates, {len(judged)} judgments: {out}")
    collection = read_collection(out)
    ranked = read_candidates(out / "bm25.trec", collection)
    rng = np.random.default_rng(0)
    shuffled = [{q: rng.permutation(docs) for q, docs in ranked.items()} for _ in range(5)]
    own, *random = (judge(("ndcg",), collection.judged, r)["ndcg"] for r in (ranked, *shuffled))
    print(f"nDCG@10 of this order {own:.3f}, of a random one {np.mean(random):.3f}")


def _write(file: Path, lines: list[str]) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
