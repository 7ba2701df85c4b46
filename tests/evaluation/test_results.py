"""results.json has the keys that documents and experiments read."""

import json

from latadj_jax.evaluation import report
from latadj_jax.evaluation.results import Results, Row

ROW = {
    "alpha": None, "metrics": {"dev": {"accuracy": 0.5}}, "expected_speedup": 1.0, "macs": 7,
    "remaining": [1.0, 1.0],
}  # fmt: skip
FOUND = {
    "metrics": ["accuracy"], "examples": {"dev": 2}, "unit": "examples", "work": "theirs",
    "num_layers": 2, "count": "valid", "strategy": "score", "batch_size": 8, "device": "cpu",
    "dtype": "float32", "jax": "0.10.2",
}  # fmt: skip


def test_what_was_not_measured_is_left_out_but_dense_has_an_alpha():
    results = Results(**FOUND, rows=[Row(**ROW)])
    assert results.to_json() == {**FOUND, "rows": [ROW]}


def test_results_are_read_back_whatever_stands_beside_them():
    timed = Row(**{**ROW, "alpha": 0.9, "measured_speedup": 2.0, "ms_per_example": 3.5,
                   "cache_bytes": 9, "skipped": [2]})  # fmt: skip
    results = Results(**FOUND, timing="a batch", num_beams=4, rows=[Row(**ROW), timed])
    written = json.dumps({**results.to_json(), "training_alpha": None, "profile": {}})
    assert Results.from_json(json.loads(written)) == results


def test_tables_say_which_layers_are_skipped():
    """And nothing of layers where all run."""
    fast = Row(**{**ROW, "alpha": 0.9, "skipped": [2]})
    results = Results(**FOUND, rows=[Row(**ROW), fast])
    assert "| layers |" in report.table(results)
    assert "| 0.9 | 0.5000 | 1 | 1.00 |" in report.table(results)
    assert "| 2 | 1.00 | skipped |" in report.remaining(results)
    every = Results(**FOUND, rows=[Row(**ROW)])
    assert "layers |" not in report.table(every)
