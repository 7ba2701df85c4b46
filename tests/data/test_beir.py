"""Collections and runs as files: what is read, and what is refused by name."""

import pytest
from beir_files import CORPUS, write

from latadj_jax.data.beir import read_candidates, read_collection
from latadj_jax.errors import DataError


def test_a_collection_is_read(tmp_path):
    collection = read_collection(write(tmp_path))
    assert collection.documents == {"d1": "Good words", "d2": "Bad other words\u0085here", "d3": ""}
    assert collection.queries == {"q1": "good"}  # q2 is judged by no split
    assert collection.judged == {"q1": {"d1": 2.0, "d2": 0.0}}
    assert read_candidates(tmp_path / "run.trec", collection) == {"q1": ["d2", "d1"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrels": "q1\td1\n"}, r"test\.tsv, row 1: needed are a query's id"),
        ({"qrels": "q1\td1\tmuch\n"}, r"test\.tsv, row 1: needed are"),
        ({"qrels": "q9\td1\t1\n"}, r"row 1: queries\.jsonl has no 'q9'"),
        ({"qrels": "q1\td9\t1\n"}, r"row 1: corpus\.jsonl has no 'd9'"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "has no relevant document"),
        ({"qrels": "q1\td1\t0\n"}, "has no relevant document"),
        ({"qrels": "q1\td1\tnan\n"}, r"test\.tsv, row 1: needed are"),
        (
            {"corpus": [{"_id": "d1", "title": 5, "text": ""}]},
            r"corpus\.jsonl, row 1: a text is not",
        ),
        ({"corpus": [{"text": "a"}]}, r"corpus\.jsonl, row 1: it has no '_id'"),
        ({"corpus": CORPUS + CORPUS[:1]}, r"corpus\.jsonl, row 4: the id 'd1' is there twice"),
        ({"queries": [{"_id": "q1", "text": 3}]}, r"queries\.jsonl, row 1: a text is not a string"),
    ],
)
def test_a_broken_collection_names_the_place(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_collection(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("q1 Q0 d1 1 7.5\n", r"run\.trec, row 1: needed are query, Q0"),
        ("q1 Q0 d9 1 7.5 bm25\n", "row 1: the corpus has no 'd9'"),
        ("q2 Q0 d1 1 7.5 bm25\n", "candidates for none of the queries"),
        ("q1 Q0 d1 \u00b2 7.5 bm25\n", r"run\.trec, row 1: needed are"),
        ("q1 Q0 d1 1 7.5 bm25\nq1 Q0 d1 2 7 bm25\n", "row 2: query 'q1' has 'd1' twice"),
    ],
)
def test_a_broken_run_names_the_place(tmp_path, run, message):
    collection = read_collection(write(tmp_path, run=run))
    with pytest.raises(DataError, match=message):
        read_candidates(tmp_path / "run.trec", collection)


def test_blank_lines_and_quotes_of_ids_are_read_as_they_stand(tmp_path):
    queries = [{"_id": '"q', "text": "good"}]
    collection = read_collection(write(tmp_path, queries=queries, qrels='"q\td1\t1\n\n'))
    assert collection.judged == {'"q': {"d1": 1.0}}


def test_a_folder_without_a_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has no file 'corpus\.jsonl', which a collection of BEIR"):
        read_collection(tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match=r"has no file 'qrels/dev\.tsv'"):
        read_collection(tmp_path, "dev")
