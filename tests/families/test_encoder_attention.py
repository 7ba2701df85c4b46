"""Attention in blocks of queries, and in a band where it is local, is attention all at once."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import tiny
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tolerance import SAME

import latadj_jax
from latadj_jax.elimination.cut import Words
from latadj_jax.families import encoder_attention
from latadj_jax.families.encoder_attention import attend_near
from latadj_jax.model.dynamic_counts import simulate

HEADS, WIDTH = 2, 4


@pytest.fixture
def in_blocks_of(monkeypatch):
    """A function that sets how many queries a block has; programs compiled before are forgotten."""

    def set_size(size: int):
        monkeypatch.setattr(encoder_attention, "block_size", lambda: size)
        jax.clear_caches()

    yield set_size
    jax.clear_caches()


def words_at(positions, sizes=None) -> Words:
    positions_BL = jnp.asarray(positions, jnp.int32)
    x_BLD = jnp.zeros((*positions_BL.shape, 1), jnp.float32)
    sizes_BL = None if sizes is None else jnp.asarray(sizes, jnp.float32)
    return Words(x_BLD, positions_BL, jnp.zeros_like(positions_BL), sizes_BL)


def random_qkv(batch: int, length: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    shape = (3, batch, length, HEADS, WIDTH)
    return tuple(jnp.asarray(rng.normal(size=shape).astype(np.float32)))


def positions_of_several_kinds(length: int, seed: int = 0) -> np.ndarray:
    """Rows without padding, with holes where tokens were, and what remains of longer texts."""
    rng = np.random.default_rng(seed)
    every = np.arange(length)
    holes = np.where(rng.random(length) < 0.3, -1, every)
    sparse = np.sort(rng.choice(3 * length, length, replace=False))
    short = np.where(every < length - 5, np.sort(rng.choice(2 * length, length, False)), -1)
    left = np.where(every >= 4, every, -1)
    return np.stack([every, holes, sparse, short, left])


def no_dropout(block, weights):
    return weights


def loop(q, k, v, positions, sizes, window):
    """What `attend_near` gives, in float64, one query and head after another."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, length, heads, width = q.shape
    out, scores = np.zeros((batch, length, heads * width)), np.zeros((batch, length))
    for b in range(batch):
        there = [i for i in range(length) if positions[b, i] >= 0]
        sees = {
            i: [j for j in there if window is None
                or abs(positions[b, i] - positions[b, j]) <= window]
            for i in there
        }  # fmt: skip
        received = np.zeros(length)
        for i in there:
            for h in range(heads):
                logits = [q[b, i, h] @ k[b, j, h] / math.sqrt(width) for j in sees[i]]
                logits = np.array(logits) + np.log([sizes[b, j] for j in sees[i]])
                probs = scipy.special.softmax(logits)
                out[b, i, h * width : (h + 1) * width] = probs @ v[b, sees[i], h]
                received[sees[i]] += probs / heads
        means = {j: received[j] / sum(j in seen for seen in sees.values()) for j in there}
        for j in there:
            scores[b, j] = means[j] / np.mean(list(means.values()))
    return out, scores


WINDOWS = [None, 0, 1, 3, 7, 100]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [2, 3, 5, 64])
def test_attention_is_that_of_a_loop(window, size, in_blocks_of):
    """29 slots: the last block is not full, and a window reaches over several blocks."""
    length = 29
    positions = positions_of_several_kinds(length)
    q, k, v = random_qkv(len(positions), length)
    sizes = np.random.default_rng(1).integers(1, 4, positions.shape)
    in_blocks_of(size)
    words = words_at(positions, sizes)
    heads, scores = jax.jit(attend_near, static_argnums=(4, 5))(q, k, v, words, window, no_dropout)
    expected_heads, expected_scores = loop(q, k, v, positions, sizes, window)
    there = positions >= 0
    np.testing.assert_allclose(heads[there], expected_heads[there], **SAME)
    np.testing.assert_allclose(scores, expected_scores, **SAME)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_those_of_one_block(window, dtype, in_blocks_of):
    positions = positions_of_several_kinds(29)
    qkv = tuple(x.astype(dtype) for x in random_qkv(len(positions), 29))
    there = jnp.asarray(positions >= 0)[:, :, None]

    def loss(qkv):
        heads, _ = attend_near(*qkv, words_at(positions), window, no_dropout)
        return jnp.sum(jnp.where(there, jnp.sin(heads.astype(jnp.float32)), 0.0))

    gradients = []
    for size in (64, 4):
        in_blocks_of(size)
        gradients.append(jax.jit(jax.grad(loss))(qkv))
    atol = 2e-5 if dtype == "float32" else 0.05
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == dtype
        ours, theirs = (np.asarray(x, np.float32) for x in (ours, theirs))
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("gradient", [False, True])
def test_the_weights_of_all_queries_never_exist_at_once(window, gradient):
    """Of a text of 4096 tokens, without changes of any size: by what the compiler sets aside."""
    length = 4096
    words = words_at(np.arange(length)[None])

    def run(qkv):
        return attend_near(*qkv, words, window, no_dropout)[0].sum()

    program = jax.jit(jax.grad(run) if gradient else run)
    memory = program.lower(random_qkv(1, length)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < HEADS * length * length * 4 / 8


def test_dropout_differs_from_block_to_block_and_keeps_the_mean(in_blocks_of):
    """Fails where one mask serves all blocks, or what stays is not made larger."""
    length, rate = 4096, 0.25
    key = jax.random.key(0)

    def dropout(block, weights):
        from latadj_jax.layers.dropout import drop

        return drop(weights, rate, jax.random.fold_in(key, block))

    in_blocks_of(32)
    q, k, v = (jnp.ones((1, length, HEADS, WIDTH)) for _ in range(3))
    words = words_at(np.arange(length)[None])
    for window in (None, 8):
        heads, _ = jax.jit(attend_near, static_argnums=(4, 5))(q, k, v, words, window, dropout)
        heads = np.asarray(heads)[0]
        assert heads.mean() == pytest.approx(1, abs=0.01)
        assert not np.allclose(heads[64:96], heads[96:128])
        assert heads.std() > 1e-3


# ---- whole models -------------------------------------------------------------------------------


def there_of(out):
    """What is meant: hidden states of tokens, logits, positions, sizes, scores."""
    there = (np.asarray(out.positions) >= 0)[:, :, None]
    logits = out.logits if out.logits.ndim == 2 else np.where(there, out.logits, 0)
    return np.where(there, out.hidden, 0), logits, out.positions, out.sizes, out.scores


@pytest.mark.parametrize("task", ["classification", "token-classification"])
@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("alpha", [None, 1.0, 0.8])
def test_a_model_in_blocks_is_the_model(task, strategy, alpha, in_blocks_of):
    """With padding on both sides and holes."""
    model, params = tiny.make("modernbert", task)
    model = model.replace(strategy=strategy)
    batch, _ = tiny.mixed_batch("modernbert")
    run = functools.partial(latadj_jax.apply, model, params, batch, alpha, return_scores=True)
    whole = there_of(run())
    for size in (1, 2, 3):
        in_blocks_of(size)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **SAME),
            there_of(run()), whole,
        )  # fmt: skip


def test_counts_at_run_time_go_in_blocks_too(in_blocks_of):
    model, params = tiny.make("modernbert", "classification")
    batch, _ = tiny.mixed_batch("modernbert")
    plan = model.plan(0.8, 16)
    expected = latadj_jax.apply(model, params, batch, plan=plan).logits
    in_blocks_of(2)
    np.testing.assert_allclose(simulate(model, params, batch, plan).logits, expected, **SAME)


@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_blocks_over_several_devices_are_blocks_on_one(axis, in_blocks_of):
    model, params = tiny.make("modernbert", "classification")
    batch, _ = tiny.mixed_batch("modernbert")
    plain = latadj_jax.apply(model, params, batch, 0.8)
    in_blocks_of(2)
    mesh = jax.make_mesh((4,), ("data",), (axis,), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    apply = jax.jit(latadj_jax.apply, static_argnames=("model", "alpha"))
    out = apply(model, jax.device_put(params, everywhere), jax.device_put(batch, rows), 0.8)
    assert out.hidden.sharding.is_equivalent_to(rows, 3)
    np.testing.assert_allclose(out.logits, plain.logits, **SAME)


def test_blocks_go_through_vmap_and_any_number_of_rows(in_blocks_of):
    model, params = tiny.make("modernbert", "classification")
    batch, _ = tiny.mixed_batch("modernbert")
    plain = latadj_jax.apply(model, params, batch, 0.8).logits
    in_blocks_of(2)
    run = functools.partial(latadj_jax.apply, model, alpha=0.8)
    both = jax.vmap(lambda b: run(params, b).logits)(
        jax.tree.map(lambda x: np.stack([x, x]), batch)
    )
    np.testing.assert_allclose(both, np.stack([plain, plain]), **SAME)
    (rows,) = jax.export.symbolic_shape("B")
    shapes = dict.fromkeys(batch, jax.ShapeDtypeStruct((rows, 16), np.int32))
    exported = jax.export.export(jax.jit(lambda p, b: run(p, b).logits))(params, shapes)
    np.testing.assert_allclose(exported.call(params, batch), plain, **SAME)


def test_no_compilation_after_the_first_in_blocks(in_blocks_of, count_compilations):
    model, params = tiny.make("modernbert", "classification")
    batch, _ = tiny.mixed_batch("modernbert")
    in_blocks_of(2)
    latadj_jax.apply(model, params, batch, 0.8)
    warm = count_compilations()
    latadj_jax.apply(model, params, batch, 0.8)
    assert count_compilations() == warm
