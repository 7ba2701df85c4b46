"""Attention in blocks of queries is attention; a cache keeps what is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax.families.causal_attention import asked_by_last, viewers
from latadj_jax.layers import cached_attention
from latadj_jax.layers.cached_attention import LayerCache, blocks, sees
from latadj_jax.model.dynamic_counts import simulate


@pytest.fixture
def block_size(monkeypatch):
    """Sets the number of queries of a block; what was compiled with another is forgotten."""

    def set_to(size: int):
        monkeypatch.setattr(cached_attention, "BLOCK", size)
        jax.clear_caches()

    yield set_to
    jax.clear_caches()


@pytest.mark.parametrize("strategy", ["score", "recall"])
@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_blocks_change_nothing(family, strategy, block_size):
    """Rows of other lengths, padded on the left too: a kept query may stand far behind its row in
    the buffer, and fails here if its block stops short of the keys that it sees."""
    layers = 3 if strategy == "recall" else 2  # "recall" asks for two rankings
    model, params = tiny.make(family, "lm", num_hidden_layers=layers)
    model = model.replace(strategy=strategy)
    batch, _ = tiny.mixed_batch(family)
    continuation = np.full((4, 5), 7, np.int32)

    def run():
        out = latadj_jax.apply(model, params, batch, 0.8, return_scores=True)
        following = latadj_jax.continuation_logits(model, params, batch, continuation, 0.8)
        return jax.tree.map(np.asarray, (out, following))

    block_size(10**6)
    whole = run()
    block_size(3)
    in_blocks = run()
    np.testing.assert_array_equal(in_blocks[0].positions, whole[0].positions)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SAME), in_blocks, whole)


def test_blocks_cover_all_queries_and_no_key_behind_them(block_size):
    block_size(4)

    def found(*args):
        return [(q.start, q.stop, k.start, k.stop) for q, k in blocks(*args)]

    assert found(10, 10, 0) == [(0, 4, 0, 4), (4, 8, 0, 8), (8, 10, 0, 10)]
    assert found(1, 9, 8) == [(0, 1, 0, 9)]
    assert found(6, 9, 3) == [(0, 4, 0, 7), (4, 6, 0, 9)]  # 6 kept of 9
    assert found(8, 9, 3) == [(0, 4, 0, 7), (4, 8, 0, 9)]  # in a buffer of 8
    # Of a window of 3: the first query of a block sees itself and two before it.
    assert found(10, 10, 0, 3) == [(0, 4, 0, 4), (4, 8, 2, 8), (8, 10, 6, 10)]
    assert found(6, 9, 3, 3) == [(0, 4, 0, 7), (4, 6, 2, 9)]


@pytest.mark.parametrize("family", tiny.CAUSAL)
@pytest.mark.parametrize("strategy", ["score", "recent"])
def test_blocks_see_the_newest_keys_in_buffers_that_are_larger(block_size, family, strategy):
    """A kept query may stand further right than its buffer's size tells, as in `simulate`."""
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    model = model.replace(strategy=strategy)
    batch, _ = tiny.mixed_batch(family)
    length = batch["input_ids"].shape[1]
    block_size(3)
    plan = model.plan(0.7, length)
    assert length >= plan.counts[0] + 3
    simulated = simulate(model, params, batch, plan)
    kept = latadj_jax.apply(model, params, batch, plan=plan)
    for row, positions in enumerate(np.asarray(kept.positions)):
        at = np.isin(simulated.positions[row], positions[positions >= 0])
        np.testing.assert_allclose(
            simulated.hidden[row][at], kept.hidden[row][positions >= 0], **SAME
        )


def test_a_query_sees_its_past_and_no_empty_slot():
    seen = sees(jnp.array([[2, 5]]), jnp.array([[0, 5, -1, 2, 6]]))
    assert seen.astype(int).tolist() == [[[1, 0, 0, 1, 0], [1, 1, 0, 1, 0]]]


def test_a_window_is_a_distance_between_positions():
    """Not a number of slots: the query at 9 sees 7, 8 and itself, however few are left."""
    seen = sees(jnp.array([[2, 9]]), jnp.array([[0, 2, 6, 7, 9, -1]]), window=3)
    assert seen.astype(int).tolist() == [[[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]]


def test_who_sees_a_column_is_counted_by_position():
    """Of positions 0, 1, 5, 6: each is seen by itself, and by those up to 2 later."""
    counts = viewers(jnp.array([[0, 1, 5, 6, -1]]), window=3)
    assert counts.tolist() == [[2, 1, 2, 1, 0]]


def test_a_cache_keeps_what_it_holds_and_takes_what_is_written():
    rng = np.random.default_rng(0)

    def filled(slots, first):
        keys, values = (jnp.asarray(rng.normal(size=(2, 1, slots, 4)), jnp.float32) for _ in "kv")
        positions = jnp.arange(first, first + slots)[None].repeat(2, 0)
        return LayerCache(keys, values, positions, window=4)

    held, new = filled(3, 0), filled(1, 7)
    cache = held.with_room(4)
    assert cache.positions[0].tolist() == [0, 1, 2, -1, -1, -1, -1]
    cache = cache.write(new, 5)
    assert cache.positions[0].tolist() == [0, 1, 2, -1, -1, 7, -1]
    np.testing.assert_array_equal(cache.keys[:, :, :3], held.keys)
    np.testing.assert_array_equal(cache.keys[:, :, 5:6], new.keys)
    np.testing.assert_array_equal(cache.values[:, :, 5:6], new.values)
    assert cache.window == 4


def test_the_last_queries_ask_within_their_window():
    """Twelve tokens, a window of 3: the last eight queries ask nothing of what lies before it."""
    rng = np.random.default_rng(0)
    keys, x = (jnp.asarray(rng.normal(size=(1, 12, 1, 4)), jnp.float32) for _ in "kx")
    positions = jnp.arange(12, dtype=jnp.int32)[None]
    new = LayerCache(keys.swapaxes(1, 2), keys.swapaxes(1, 2), positions, window=3)
    asked = asked_by_last(lambda x_BLD, at_BL: x_BLD[:, :, None], x[:, :, 0], new)
    expected = np.zeros(12)
    for i in range(4, 12):
        seen = np.exp([float(x[0, i, 0] @ keys[0, j, 0]) / 2 for j in range(i - 2, i + 1)])
        expected[i - 2 : i + 1] += seen / seen.sum()
    np.testing.assert_allclose(asked[0], expected, atol=1e-5)
    assert (np.asarray(asked[0])[:2] == 0).all()
