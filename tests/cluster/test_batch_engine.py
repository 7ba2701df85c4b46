"""What an actor of Ray Data runs, without Ray."""

import numpy as np
import pytest
import tiny
import tiny_run
from tolerance import SAME

import latadj_jax
from latadj_jax.cluster.batch_engine import BatchEngine

TEXTS = ["good word1 word2", "bad", "word3 good " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    for task in ("embedding", "ranking", "token-classification"):
        model = tiny.make_model("bert", task, num_hidden_layers=1)
        params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
        latadj_jax.save_pretrained(folder / task, model, params, tokenizer)
    return folder


def test_it_adds_a_row_for_each_text(folder):
    """At the speed that is asked for; the other columns stay."""
    engine = BatchEngine(str(folder / "embedding"), speedup=1.5, buckets=(24,), to="vector")
    found = engine({"id": np.arange(3), "text": np.array(TEXTS, object)})
    assert list(found) == ["id", "text", "vector"]
    np.testing.assert_array_equal(found["id"], np.arange(3))
    model, params = latadj_jax.from_pretrained(folder / "embedding")
    model = model.replace(alpha=model.solve_alpha(24, 1.5))
    tokenizer = latadj_jax.load_tokenizer(str(folder / "embedding"))
    with latadj_jax.Engine(model, params, tokenizer, buckets=(24,), truncate=True) as own:
        expected = own.warmup(repeats=1)(TEXTS)
        np.testing.assert_allclose(found["vector"], expected, **SAME)


def test_two_columns_are_a_pair(folder):
    engine = BatchEngine(str(folder / "ranking"), text="query", second="document", buckets=(24,))
    batch = {"query": np.array(["good"] * 2, object), "document": np.array(TEXTS[:2], object)}
    found = engine(batch)["row"]
    expected = engine._engine([("good", text) for text in TEXTS[:2]])
    np.testing.assert_allclose(found, expected, **SAME)


def test_a_model_that_gives_no_row_for_a_text_is_refused(folder):
    with pytest.raises(ValueError, match=r"a row is needed for each text; .*token-classif"):
        BatchEngine(str(folder / "token-classification"))
