"""Promise 1 where torch is not installed: the numbers that golden/make.py wrote down."""

import json

import numpy as np
import pytest
import tiny
from golden.make import FILE, few

import latadj_jax

GOLDEN = json.loads(FILE.read_text())


def test_every_kind_has_its_numbers():
    kinds = {f"{family} {task}" for family in tiny.FAMILIES for task in tiny.TASKS[family]}
    assert set(GOLDEN) == kinds


@pytest.mark.parametrize("kind", GOLDEN)
def test_dense_gives_the_numbers_of_hugging_face(kind):
    family, task = kind.split()
    batch, _ = tiny.mixed_batch(family)
    out = latadj_jax.apply(*tiny.make(family, task), batch)
    valid = batch["attention_mask"] > 0
    for name, expected in GOLDEN[kind].items():
        found = np.asarray(few(np.asarray(getattr(out, name)), valid))
        # Encoders' heads read column 0, whether a token is there or not.
        rows = valid[:, 0] if family in tiny.ENCODERS and found.ndim == 2 else slice(None)
        np.testing.assert_allclose(found[rows], np.asarray(expected)[rows], rtol=0, atol=1e-4)
