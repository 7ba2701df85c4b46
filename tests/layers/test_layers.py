import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from latadj_jax.layers.activations import ACTIVATIONS, gelu
from latadj_jax.layers.attention import attend, attention_weights, split_heads
from latadj_jax.layers.dropout import Dropout, random_bytes
from latadj_jax.layers.norms import LayerNorm
from latadj_jax.layers.products import product


def drop(rate, x, seed=0, train=True):
    return Dropout(rate).apply({}, x, train, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_expectation(rate):
    """Fails where the share is not the rate to 1/512, or the scale is not of the share in use."""
    y = np.asarray(drop(rate, jnp.ones((500, 803))))
    zero, scale = np.unique(y)  # one scale for all
    assert zero == 0
    kept_256 = 256 / scale  # a byte decides, so that 256ths are kept
    assert abs(kept_256 - round(kept_256)) < 1e-4
    assert abs(kept_256 / 256 - (1 - rate)) < 0.51 / 256
    four_std = 4 * (rate * (1 - rate) / y.size) ** 0.5
    assert abs((y > 0).mean() - kept_256 / 256) < four_std


def test_dropout_decides_each_element_by_itself():
    """Four elements share a random word: fails where neighbours, rows or words share a decision."""
    kept = np.asarray(drop(0.5, jnp.ones((400, 402)))) > 0
    kept = kept - kept.mean()
    for rows, columns in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]:
        shifted = np.roll(kept, (rows, columns), axis=(0, 1))
        assert abs((kept * shifted).mean()) < 5 * 0.25 / kept.size**0.5


def test_dropout_is_decided_by_its_key():
    x = jnp.ones((8, 30))
    np.testing.assert_array_equal(drop(0.5, x, seed=1), drop(0.5, x, seed=1))
    assert not np.array_equal(drop(0.5, x, seed=1), drop(0.5, x, seed=2))


def test_dropout_does_nothing_outside_of_training_and_needs_no_key_then():
    x = jnp.ones((3, 5))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, True), x)


def test_dropout_keeps_dtype_and_gradient():
    x = jnp.full((4, 7), 2.0, jnp.bfloat16)
    assert drop(0.5, x).dtype == jnp.bfloat16
    x = jnp.full((4, 7), 2.0)
    gradient = jax.grad(lambda x: drop(0.5, x).sum())(x)
    np.testing.assert_allclose(gradient * x, drop(0.5, x))


def test_random_bytes_are_uniform():
    counts = np.bincount(np.asarray(random_bytes(jax.random.key(0), (64, 1023))).ravel())
    assert len(counts) == 256
    expected = 64 * 1023 / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 255 + 5 * (2 * 255) ** 0.5


def random_qkv(batch=2, length=5, heads=3, width=4):
    rng = np.random.default_rng(0)
    return rng.normal(0, 1.5, (3, batch, length, heads, width)).astype(np.float32)


def by_heads(x_BLHC):
    return jnp.asarray(x_BLHC).swapaxes(1, 2)


def test_attention_equals_plain_loops():
    """Fails with a wrong scale, heads mixed up, or keys seen that the mask hides."""
    q, k, v = random_qkv()
    mask = np.ones((2, 1, 5), bool)
    mask[0, 0, 3:] = mask[1, 0, :2] = False
    weights, totals = attention_weights(q, by_heads(k), mask)
    out = attend(weights, totals, by_heads(v))
    for b in range(2):
        seen = np.flatnonzero(mask[b, 0])
        for i in range(5):
            for h in range(3):
                probs = np.array([np.exp(q[b, i, h] @ k[b, j, h] / 2.0) for j in seen])
                probs /= probs.sum()
                expected = np.zeros(5)
                expected[seen] = probs
                np.testing.assert_allclose((weights / totals)[b, h, i], expected, atol=1e-6)
                head = sum(p * v[b, j, h] for p, j in zip(probs, seen, strict=True))
                np.testing.assert_allclose(out[b, i, 4 * h : 4 * h + 4], head, atol=1e-5)


def test_heads_of_a_group_read_the_same_keys():
    q, k, v = random_qkv(heads=6)
    k, v = by_heads(k)[:, :2], by_heads(v)[:, :2]
    repeated = attention_weights(q, jnp.repeat(k, 3, axis=1), np.ones((2, 1, 5), bool))
    grouped = attention_weights(q, k, np.ones((2, 1, 5), bool))
    np.testing.assert_allclose(grouped[0], repeated[0], atol=1e-6)
    np.testing.assert_allclose(
        attend(*grouped, v), attend(*repeated, jnp.repeat(v, 3, axis=1)), atol=1e-6
    )


def test_attention_mask_may_differ_per_query():
    q, k, _ = random_qkv()
    causal = np.tril(np.ones((1, 5, 5), bool))
    weights, totals = attention_weights(q, by_heads(k), causal)
    assert (np.asarray(weights)[..., ~causal[0]] == 0).all()
    np.testing.assert_allclose(totals[..., 0], weights.sum(-1), rtol=1e-6)


def test_a_query_that_sees_nothing_stays_finite():
    """A NaN in a padding row would reach every gradient."""
    q, k, v = random_qkv()
    weights = attention_weights(q, by_heads(k), np.zeros((2, 1, 5), bool))
    assert np.isfinite(attend(*weights, by_heads(v))).all()


def test_large_logits_do_not_overflow():
    q, k, v = random_qkv()
    weights = attention_weights(1e4 * q, by_heads(k), np.ones((2, 1, 5), bool))
    assert np.isfinite(attend(*weights, by_heads(v))).all()
    assert (np.asarray(weights[1]) >= 1).all()


def test_attention_weights_are_float32_in_half_precision():
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in random_qkv())
    weights, totals = attention_weights(q, by_heads(k), np.ones((2, 1, 5), bool))
    assert weights.dtype == totals.dtype == jnp.float32
    assert attend(weights, totals, by_heads(v)).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("spec", "shape_a", "shape_b"),
    [
        ("ID,DJ->IJ", (3, 256), (256, 5)),
        ("BLD,DF->BLF", (2, 3, 256), (256, 5)),  # a dense layer
        ("BGNC,BGJC->BGNJ", (2, 3, 4, 64), (2, 3, 5, 64)),  # attention's logits
        ("BGNJ,BGJC->BGNC", (2, 3, 4, 64), (2, 3, 64, 5)),  # and what it gives
    ],
)
def test_products_and_their_gradients_are_of_one_dtype_and_close_to_float64(
    dtype, spec, shape_a, shape_b
):
    """Fails where autodiff multiplies a float32 gradient with bfloat16 arrays, or sums in them."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=s), dtype) for s in (shape_a, shape_b))
    wide_a, wide_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    of_a, of_b, of_out = spec.replace("->", ",").split(",")

    def loss(a, b):
        return jnp.square(product(spec, a, b)).sum()

    out, wide_out = product(spec, a, b), np.einsum(spec, wide_a, wide_b)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, wide_out, rtol=1e-4, atol=1e-3)
    found = jax.grad(loss, (0, 1))(a, b)
    assert {gradient.dtype for gradient in found} == {jnp.dtype(dtype)}
    expected = (
        2 * np.einsum(f"{of_out},{of_b}->{of_a}", wide_out, wide_b),
        2 * np.einsum(f"{of_a},{of_out}->{of_b}", wide_a, wide_out),
    )
    for gradient, wide in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(gradient, np.float64), wide, rtol=0.02, atol=2)
    dots = [
        {operand.aval.dtype for operand in equation.invars}
        for equation in jax.make_jaxpr(jax.grad(loss, (0, 1)))(a, b).jaxpr.eqns
        if equation.primitive.name == "dot_general"
    ]
    assert len(dots) >= 2  # of the gradients at least
    assert all(dtypes == {jnp.dtype(dtype)} for dtypes in dots)


def test_gelu_equals_float64_and_keeps_its_dtype():
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    expected = x.astype(np.float64) * scipy.special.ndtr(x.astype(np.float64))
    np.testing.assert_allclose(gelu(jnp.asarray(x)), expected, atol=1e-6)
    assert gelu(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_attend_takes_fewer_queries_than_keys():
    q, k, v = random_qkv()
    weights, totals = attention_weights(q, by_heads(k), np.ones((2, 1, 5), bool))
    some = attend(weights[:, :, 1:3], totals[:, :, 1:3], by_heads(v))
    np.testing.assert_allclose(some, attend(weights, totals, by_heads(v))[:, 1:3], atol=1e-6)


def test_split_heads_gives_each_head_neighbouring_columns():
    assert split_heads(jnp.arange(6).reshape(1, 1, 6), 2).tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


def test_layer_norm_equals_float64_far_from_zero():
    """Fails with the variance as E[x^2] - E[x]^2, which cancels."""
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1, (2, 3, 64)) + 1000).astype(np.float32)
    scale, bias = rng.normal(1, 0.3, (2, 64)).astype(np.float32)
    y = LayerNorm(1e-3).apply({"params": {"scale": scale, "bias": bias}}, x)
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + bias
    np.testing.assert_allclose(y, expected, atol=1e-3)


def test_layer_norm_computes_in_float32_and_returns_what_came():
    x = jnp.linspace(-3, 3, 64, dtype=jnp.bfloat16).reshape(1, 1, 64)
    norm = LayerNorm(1e-12)
    params = norm.init(jax.random.key(0), x)
    y = norm.apply(params, x)
    assert y.dtype == jnp.bfloat16
    exact = norm.apply(params, x.astype(jnp.float32))
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("name", "at_one", "at_minus_one"),
    [
        *((name, 0.8413447, -0.1586553) for name in ("gelu", "gelu_python")),
        *((name, 0.8411920, -0.1588080) for name in ("gelu_fast", "gelu_new", "gelu_pytorch_tanh")),
        ("quick_gelu", 0.8457958, -0.1542042),
        ("relu", 1.0, 0.0),
        *((name, 0.7310586, -0.2689414) for name in ("silu", "swish")),
        ("tanh", 0.7615942, -0.7615942),
    ],
)
def test_activations_at_one_and_minus_one(name, at_one, at_minus_one):
    """Exact and approximate GELU differ in the fourth digit: enough to break parity."""
    y = ACTIVATIONS[name](jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(y, [at_one, at_minus_one], atol=2e-6)
