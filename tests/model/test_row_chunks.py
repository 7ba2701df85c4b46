"""Rows computed some at a time are what they are all at once."""

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax.model import row_chunks


@pytest.mark.parametrize(
    ("batch_size", "length", "rows"),
    [(32, 128, 8), (8, 512, 2), (1, 2048, 1), (6, 300, 3), (7, 512, 7), (5, 8, 5), (4, 1500, 1)],
)
def test_a_part_is_the_least_divisor_of_enough_tokens(batch_size, length, rows):
    assert row_chunks.rows_at_once(batch_size, length) == rows


@pytest.mark.parametrize(
    ("batch_size", "length", "left", "cores", "rows"),
    [
        (8, 128, 128, 2, 4),  # one each
        (32, 128, 128, 2, 8),  # more than one each: not more tokens than one after another
        (32, 128, 128, 16, 2),
        (32, 128, 128, 64, 1),
        (32, 32, 32, 64, 4),  # not less than 128 tokens, though cores are left
        (8, 64, 64, 2, 4), (8, 64, 21.3, 2, 8),  # which elimination leaves, or does not
        (2, 32, 32, 2, 2), (1, 512, 512, 2, 1), (7, 128, 128, 2, 7), (32, 128, 128, 1, 8),
    ],
)  # fmt: skip
def test_a_part_beside_others_leaves_no_core_without_one(batch_size, length, left, cores, rows):
    assert row_chunks.rows_beside(batch_size, length, left, cores) == rows


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("alpha", [None, 0.8])
def test_parts_change_nothing(monkeypatch, family, alpha):
    """Fails where rows go to another part's places, or a part is left out."""
    model, params = tiny.make(family, tiny.main_task(family))
    batch, _ = tiny.mixed_batch(family)
    whole = latadj_jax.apply(model, params, batch, alpha, return_scores=True)
    jax.clear_caches()
    monkeypatch.setattr(row_chunks, "TOKENS", 1.5 * 16)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    mapped = []
    monkeypatch.setattr(jax.lax, "map", lambda f, x, own=jax.lax.map: mapped.append(x) or own(f, x))
    in_parts = latadj_jax.apply(model, params, batch, alpha, return_scores=True)
    assert [x["input_ids"].shape for x in mapped] == [(2, 2, 16)]
    for ours, theirs in zip(jax.tree.leaves(in_parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, **SAME)
    jax.clear_caches()
