"""What another device may do otherwise than a CPU: `JAX_PLATFORMS=cuda,cpu pytest -m device`.

On CPU devices alone the first is compared with the last.
"""

import jax
import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.elimination.eliminate import select

pytestmark = pytest.mark.device


def on(where, function, *args):
    """In float32 as it is on a CPU: a GPU has products that are less exact."""
    with jax.default_device(where), jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, function(*jax.device_put(args, where)))


@pytest.fixture(scope="module")
def devices():
    """The device, and a CPU."""
    return jax.devices()[-1], jax.devices("cpu")[0]


@pytest.mark.parametrize("alpha", [None, 0.8])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_gives_what_a_cpu_gives(family, alpha, devices):
    """Fails where other word-vectors are kept, or numbers differ by more than dense parity may."""
    model, params = tiny.make(family, tiny.main_task(family))
    batch, _ = tiny.mixed_batch(family)
    own, other = (
        on(one, lambda params, batch: latadj_jax.apply(model, params, batch, alpha), params, batch)
        for one in devices
    )
    np.testing.assert_array_equal(own.positions, other.positions)
    is_there = other.positions >= 0
    np.testing.assert_allclose(own.hidden[is_there], other.hidden[is_there], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [16, 128, 1000])
def test_of_equals_the_earlier_stays(length, devices):
    """Fails where a device sorts in another way, or takes -0 for less than 0."""
    rng = np.random.default_rng(0)
    ranking = rng.choice(np.float32([-0.0, 0.0, 1.0, 2.0]), (8, length))
    valid, protected = np.ones((8, length), bool), np.zeros((8, length), bool)
    count = rng.integers(1, length, 8).astype(np.int32)
    found = on(devices[0], lambda *args: select(*args, length), ranking, valid, protected, count)
    for row, (numbers, kept) in enumerate(zip(ranking, count, strict=True)):
        best = sorted(range(length), key=lambda n: (-numbers[n], n))[:kept]
        assert found[row, :kept].tolist() == sorted(best)
        assert (found[row, kept:] == length).all()


def test_gradients_are_those_of_a_cpu(devices):
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch("bert")

    def gradients(params, batch):
        return jax.grad(lambda p: latadj_jax.apply(model, p, batch, 0.8).logits.sum())(params)

    own, other = (on(one, gradients, params, batch) for one in devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3), own, other)


def test_bfloat16_is_close_to_float32(devices):
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch("bert")
    half = jax.tree.map(lambda x: x.astype("bfloat16"), params)
    own, other = (
        on(devices[0], lambda p, b, m=m: latadj_jax.apply(m, p, b).logits, p, batch)
        for m, p in ((model.replace(dtype="bfloat16"), half), (model, params))
    )
    np.testing.assert_allclose(own.astype(np.float32), other, atol=0.3)


def test_an_engine_answers_as_apply_does(devices, tmp_path):
    """Fails where what is on the host reaches another device than the weights."""
    model, params = tiny.make("bert", "classification")
    options = {"alphas": (None, 0.8), "buckets": (16,), "batch_sizes": (4,)}
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, 40, length).astype(np.int32) for length in (3, 16, 9)]
    with jax.default_device(devices[0]), jax.default_matmul_precision("highest"):
        engine = latadj_jax.Engine(model, params, tiny_run.tokenizer(tmp_path), **options)
        found = engine.warmup(repeats=1)(texts, alpha=0.8)
    for text, row in zip(texts, found, strict=True):
        ids = {"input_ids": text[None], "token_type_ids": np.zeros_like(text)[None]}
        expected = on(devices[1], lambda p, b: latadj_jax.apply(model, p, b, 0.8), params, ids)
        np.testing.assert_allclose(row, expected.logits[0], atol=1e-4, rtol=1e-4)
