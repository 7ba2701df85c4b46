"""Search collections in the layout of BEIR, and lists of candidates as trec_eval reads them.

    corpus.jsonl      {"_id", "title", "text"} a line
    queries.jsonl     {"_id", "text"} a line
    qrels/test.tsv    query-id, corpus-id, score

Source: Thakur et al., arXiv 2104.08663.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from latadj_jax.data.text_files import a_string, decode, json_records
from latadj_jax.errors import DataError


class Collection(NamedTuple):
    """Documents and queries by id, and the relevance of documents to queries: above 0 is relevant.

    The queries are those that the split judges.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judged: dict[str, dict[str, float]]


def read_collection(folder: pathlib.Path, split: str = "test") -> Collection:
    """A collection and one split of its queries.

    Raises:
      DataError: a file that is missing or broken, and where; a query or document that is judged and
        is not there.
    """
    corpus, queries, qrels = (
        _file(folder, name) for name in ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    )
    documents = {key: _with_title(record) for key, record in _records(corpus).items()}
    texts = {key: record["text"] for key, record in _records(queries).items()}
    judged: dict[str, dict[str, float]] = {}
    for number, line in enumerate(decode(qrels).split("\n"), 1):
        row = line.rstrip("\r").split("\t")
        if not line.strip() or (number == 1 and row[-1] == "score"):
            continue
        if len(row) != 3 or not _is_finite(row[2]):
            raise DataError(
                f"{qrels.name}, row {number}: needed are a query's id, a document's and a score, "
                f"with tabs between; it is {line[:80]!r}."
            )
        query, document, score = row
        judged.setdefault(query, {})[document] = float(score)
        for key, known, what in ((query, texts, queries), (document, documents, corpus)):
            if key not in known:
                raise DataError(f"{qrels.name}, row {number}: {what.name} has no {key!r}.")
    if not any(score > 0 for of_query in judged.values() for score in of_query.values()):
        raise DataError(f"{qrels.name} has no relevant document, of a score above 0.")
    return Collection(documents, {key: texts[key] for key in judged}, judged)


def read_candidates(file: pathlib.Path, collection: Collection) -> dict[str, list[str]]:
    """Documents by query, in the order of a run file: query, Q0, document, rank, score, name.

    Raises:
      DataError: a row that is none, or an id that the collection has not; no queries at all.
    """
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(decode(file).split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 6 or not fields[3].isdecimal():
            raise DataError(
                f"{file.name}, row {number}: needed are query, Q0, document, rank, score and a "
                f"name; it is {line[:80]!r}."
            )
        query, _, document, rank, *_ = fields
        if document not in collection.documents:
            raise DataError(f"{file.name}, row {number}: the corpus has no {document!r}.")
        if query in collection.queries:
            of_query = found.setdefault(query, {})
            if document in of_query:
                raise DataError(
                    f"{file.name}, row {number}: query {query!r} has {document!r} twice."
                )
            of_query[document] = int(rank)
    if not found:
        raise DataError(f"{file.name} has candidates for none of the queries that are judged.")
    return {query: sorted(ranks, key=ranks.get) for query, ranks in found.items()}


def _file(folder: pathlib.Path, name: str) -> pathlib.Path:
    file = folder / name
    if not file.is_file():
        raise DataError(f"{folder} has no file {name!r}, which a collection of BEIR has.")
    return file


def _records(file: pathlib.Path) -> dict[str, Mapping]:
    found: dict[str, Mapping] = {}
    for row, record in json_records(file.name, decode(file)):
        for key in ("_id", "text"):
            if key not in record:
                raise DataError(f"{file.name}, row {row}: it has no {key!r}.")
            a_string(f"{file.name}, row {row}", record[key])
        a_string(f"{file.name}, row {row}", record.get("title") or "")
        if record["_id"] in found:
            raise DataError(f"{file.name}, row {row}: the id {record['_id']!r} is there twice.")
        found[record["_id"]] = record
    return found


def _is_finite(score: str) -> bool:
    try:
        return math.isfinite(float(score))
    except ValueError:
        return False


def _with_title(record: Mapping) -> str:
    """Title and text, once where the text begins with its title."""
    title, text = (record.get("title") or "").strip(), record["text"].strip()
    return text if text.startswith(title) else f"{title} {text}".strip()
