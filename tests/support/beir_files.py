"""A small collection in the layout of BEIR, and a run of candidates."""

import json

CORPUS = [
    {"_id": "d1", "title": "Good", "text": "Good words"},  # begins with its title
    {"_id": "d2", "title": "Bad", "text": "other words\u0085here"},
    {"_id": "d3", "title": "", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "good"}, {"_id": "q2", "text": "bad"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"
RUN = "q1 Q0 d2 1 7.5 bm25\nq1 Q0 d1 2 3.5 bm25\nq2 Q0 d1 1 1 bm25\n"


def write(folder, corpus=CORPUS, queries=QUERIES, qrels=QRELS, run=RUN):
    (folder / "qrels").mkdir()
    for name, records in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "qrels/test.tsv").write_text(qrels)
    (folder / "run.trec").write_text(run)
    return folder
