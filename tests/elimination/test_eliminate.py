import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra import numpy as hnp

from latadj_jax.elimination.eliminate import put_back, select, take, take_positions
from latadj_jax.elimination.strategies import RANDOM, find

B, L = 3, 7
select_jit = jax.jit(select, static_argnames="size")


def keep(rank, count, size, valid=None, protected=None):
    """`select` of a single row of a batch."""
    length = len(rank)
    rows = select_jit(
        jnp.array([rank], jnp.float32),
        jnp.ones((1, length), bool) if valid is None else jnp.array([valid], bool),
        jnp.zeros((1, length), bool) if protected is None else jnp.array([protected], bool),
        jnp.array([count], jnp.int32),
        size=size,
    )
    assert rows.dtype == jnp.int32
    return rows[0].tolist()


def test_select_of_the_docstring_example():
    assert keep([1.8, 0.6, 0.5, 1.1], 2, 3, protected=[1, 0, 0, 0]) == [0, 3, 4]


def test_kept_ones_stay_in_their_original_order():
    assert keep([1.0, 4.0, 2.0, 5.0, 3.0], 3, 3) == [1, 3, 4]


def test_of_equals_the_earlier_stays():
    assert keep([1.0, 1.0, 2.0, 1.0, 1.0], 3, 3) == [0, 1, 2]


def test_protected_stay_with_the_worst_rank():
    assert keep([0.0, 5.0, 4.0, 3.0, 0.1], 3, 3, protected=[1, 0, 0, 0, 1]) == [0, 1, 4]


def test_invalid_go_even_with_the_best_rank():
    assert keep([9.0, 1.0, 2.0, 9.0], 2, 3, valid=[0, 1, 1, 0]) == [1, 2, 4]


def test_each_example_keeps_its_own_count():
    rank = jnp.tile(jnp.array([[3.0, 1.0, 2.0, 0.0]]), (3, 1))
    rows = select_jit(
        rank, jnp.ones((3, 4), bool), jnp.zeros((3, 4), bool), jnp.array([1, 2, 3]), size=3
    )
    assert rows.tolist() == [[0, 4, 4], [0, 2, 4], [0, 1, 2]]


@st.composite
def cuts(draw):
    """Ranks with many ties, valid and protected positions, counts, and a buffer that holds them."""
    rank = draw(
        hnp.arrays(np.float32, (B, L), elements=st.sampled_from([-0.0, 0.0, 0.5, 2.0, 3.0]))
    )
    valid = draw(hnp.arrays(np.bool_, (B, L)))
    valid[:, draw(st.integers(0, L - 1))] = True
    protected = valid & draw(hnp.arrays(np.bool_, (B, L)))
    least, most = np.maximum(1, protected.sum(axis=1)), valid.sum(axis=1)
    counts = [draw(st.integers(int(least[row]), int(most[row]))) for row in range(B)]
    size = draw(st.integers(max(counts), L))
    return rank, valid, protected, np.array(counts, np.int32), size


@hypothesis.given(cut=cuts())
def test_select_equals_plain_sorting(cut):
    rank, valid, protected, counts, size = cut
    for row, got in enumerate(np.asarray(select_jit(rank, valid, protected, counts, size=size))):
        present = [j for j in range(L) if valid[row, j]]
        present.sort(key=lambda j: (not protected[row, j], -rank[row, j], j))
        expected = sorted(present[: counts[row]])
        assert got.tolist() == expected + [L] * (size - len(expected))


@functools.partial(jax.jit, static_argnames="size")
def take_and_put_back(x, full, positions, rank, valid, protected, counts, size):
    kept = select(rank, valid, protected, counts, size)
    return kept, put_back(full, take(x, kept), take_positions(positions, kept))


@hypothesis.given(cuts())
def test_put_back_undoes_take_for_what_was_kept(cut):
    """Fails where an empty slot writes a row, or a kept one lands in another place."""
    valid, counts = cut[1], cut[3]
    rows = np.arange(L)[None, :]
    positions = np.where(valid, rows, -1).astype(np.int32)
    x = np.random.default_rng(0).normal(size=(B, L, 2)).astype(np.float32)
    full = np.full_like(x, 7.0)

    kept, restored = map(np.asarray, take_and_put_back(x, full, positions, *cut))

    was_kept = (rows[:, :, None] == kept[:, None, :]).any(axis=2)
    assert (was_kept.sum(axis=1) == counts).all()
    np.testing.assert_array_equal(restored[was_kept], x[was_kept])
    assert (restored[~was_kept] == 7.0).all()


def test_take_follows_the_indices_of_each_row():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    taken = take(x, jnp.array([[0, 2], [1, 2]]))
    assert taken.tolist() == [[[0, 1], [4, 5]], [[8, 9], [10, 11]]]


def test_take_along_the_query_axis_of_attention():
    probs = np.random.default_rng(0).uniform(size=(2, 3, 4, 5)).astype(np.float32)
    rows = np.array([[0, 3], [1, 2]], np.int32)
    taken = np.asarray(take(probs, rows, axis=2))
    for b in range(2):
        np.testing.assert_array_equal(taken[b], probs[b][:, rows[b]])


def test_take_leaves_something_finite_in_empty_slots():
    """A NaN there would poison gradients, though the slot is masked."""
    taken = take(jnp.ones((1, 3, 2)), jnp.array([[1, 3, 3]]))
    assert np.isfinite(taken).all()


def test_positions_of_empty_slots_are_minus_one():
    positions = jnp.array([[-1, 4, 6, 7]], jnp.int32)
    assert take_positions(positions, jnp.array([[1, 3, 4, 4]])).tolist() == [[4, 7, -1, -1]]


def test_put_back_overwrites_only_the_named_rows():
    full = jnp.zeros((1, 4, 1))
    x = jnp.array([[[5.0], [6.0], [9.0]]])
    assert put_back(full, x, jnp.array([[1, 3, -1]])).ravel().tolist() == [0, 5, 0, 6]


@pytest.mark.parametrize(("strategy", "kept"), [("score", [1, 4]), ("tail", [0, 1])])
def test_strategy_decides_who_stays(strategy, kept):
    have = {
        "scores_BL": jnp.array([[0.1, 3.0, 0.2, 1.0, 2.0]]),
        "positions_BL": jnp.arange(5, dtype=jnp.int32)[None, :],
    }
    wanted = {name: have[name] for name in find(strategy).needs}
    assert keep(find(strategy).rank(**wanted)[0], 2, 2) == kept


def test_random_strategy_follows_the_key_alone_and_keeps_all_equally_often():
    """Fails where the draw depends on more than the key, or prefers some positions."""
    draw = functools.partial(RANDOM.rank, jnp.zeros((2000, 5), jnp.int32))
    rank = draw(jax.random.key(0))
    np.testing.assert_array_equal(rank, draw(jax.random.key(0)))
    assert not np.array_equal(rank, draw(jax.random.key(1)))
    other = jnp.arange(10000, dtype=jnp.int32).reshape(2000, 5)
    np.testing.assert_array_equal(rank, RANDOM.rank(other, jax.random.key(0)))
    assert RANDOM.draws
    assert not find("score").draws
    all_B, none_B = jnp.ones((2000, 5), bool), jnp.zeros((2000, 5), bool)
    rows = select_jit(rank, all_B, none_B, jnp.full(2000, 2), size=2)
    shares = np.bincount(np.asarray(rows).ravel(), minlength=5) / 2000
    np.testing.assert_allclose(shares, 0.4, atol=0.05)  # 4.5 standard deviations


def test_scores_that_are_no_numbers_break_no_promise():
    """As many as asked for, the protected one among them, nothing that is not there."""
    ranking = jnp.full((1, 6), jnp.nan)
    valid = jnp.asarray([[True, True, True, True, False, False]])
    protected = jnp.asarray([[False, False, False, True, False, False]])
    keep = select(ranking, valid, protected, jnp.asarray([2], jnp.int32), 3)
    assert keep.tolist() == [[0, 3, 6]]
