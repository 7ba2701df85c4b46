"""A tiny classifier with its tokenizer, and an engine of it."""

import pytest
import tiny
import tiny_run
from tiny_engine import ALPHAS, BUCKETS, make


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    tokenizer = tiny_run.tokenizer(tmp_path_factory.mktemp("tokenizer"))
    model = tiny.make_model("bert", "classification", num_hidden_layers=2).replace(alpha=0.9)
    return model, tiny.random_params(model), tokenizer


@pytest.fixture(scope="module")
def engine(parts):
    with make(parts, alphas=ALPHAS, buckets=BUCKETS, batch_sizes=(4,)) as engine:
        yield engine.warmup(repeats=2)
