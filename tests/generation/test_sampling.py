"""The next token against NumPy's softmax: how often each is drawn, and what a draw depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from latadj_jax.generation.sampling import Draw, Sampling, next_token

LOGITS = np.array([2.0, -1.0, 0.5, 1.5, -3.0, 1.0, 0.0, -0.5], np.float32)
draw_jit = jax.jit(next_token)


def draws(logits_BV, seed=0, step=0, **settings):
    draw = Draw.of(Sampling(**settings), jax.random.key(seed))
    tokens = draw_jit(jnp.asarray(logits_BV), draw, jnp.int32(step))
    assert tokens.dtype == jnp.int32
    return np.asarray(tokens)


def expected_probs(temperature, top_k=0, top_p=1.0):
    """Temperature, then the k best, then the fewest of them that reach top_p."""
    logits = LOGITS.astype(np.float64) / temperature
    order = sorted(range(len(logits)), key=lambda v: -logits[v])
    order = order[: top_k or len(order)]
    probs = scipy.special.softmax(logits[order])
    reached = np.cumsum(probs)
    number = next((n for n, p in enumerate(reached, 1) if p >= top_p), len(order))
    result = np.zeros(len(logits))
    result[order[:number]] = probs[:number] / probs[:number].sum()
    return result


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.4},
        {"temperature": 3.0},
        {"temperature": 1.0, "top_k": 3},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.0, "top_p": 1e-6},
        {"temperature": 2.0, "top_k": 100},
        # 0.6 of the three best needs two of them, 0.6 of all would need three.
        {"temperature": 2.0, "top_k": 3, "top_p": 0.6},
    ],
    ids=str,
)
def test_tokens_are_as_frequent_as_their_probability(settings):
    rows = 20000
    tokens = draws(np.tile(LOGITS, (rows, 1)), **settings)
    shares = np.bincount(tokens, minlength=len(LOGITS)) / rows
    probs = expected_probs(**settings)
    assert (np.abs(shares - probs) <= 5 * np.sqrt(probs * (1 - probs) / rows)).all()  # 5 sigma


def test_top_p_counts_among_the_top_k():
    """The case above tells one order of the two from the other."""
    both = expected_probs(2.0, top_k=3, top_p=0.6)
    assert (both > 0).sum() == 2
    assert (expected_probs(2.0, top_p=0.6) > 0).sum() == 3


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "top_k": 1}], ids=str)
def test_greedy_and_the_best_one_alone_are_the_same(settings):
    logits = np.random.default_rng(0).normal(size=(64, 50)).astype(np.float32)
    np.testing.assert_array_equal(draws(logits, **settings), logits.argmax(axis=1))


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9}])
def test_a_draw_depends_on_key_step_and_row_and_not_on_companions(settings):
    logits = np.zeros((256, 100), np.float32)
    tokens = draws(logits, **settings)
    np.testing.assert_array_equal(tokens, draws(logits, **settings))
    np.testing.assert_array_equal(tokens[:4], draws(logits[:4], **settings))
    others = logits.copy()
    others[1:] = np.random.default_rng(0).normal(size=(255, 100))
    assert draws(others, **settings)[0] == tokens[0]
    for other in (draws(logits, seed=1, **settings), draws(logits, step=1, **settings)):
        assert (other == tokens).mean() < 0.1
    assert len(set(tokens.tolist())) > 50  # rows differ


def test_settings_of_one_kind_are_one_program(count_compilations):
    logits = np.zeros((3, 7), np.float32)
    for n, settings in enumerate(({"top_k": 2}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.4})):
        draws(logits, temperature=1.0 + n, **settings)
        if n == 0:
            warm = count_compilations()
    assert count_compilations() == warm > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature must be 0 \(greedy\) or .*; it is -0.1"),
        ({"temperature": 1e-38}, "temperature.*at least 1e-6; it is 1e-38"),
        ({"temperature": float("nan")}, "temperature.*nan"),
        ({"temperature": float("inf")}, "temperature.*inf"),
        ({"temperature": True}, "temperature.*True"),
        ({"temperature": "1"}, "temperature.*'1'"),
        ({"top_k": -1}, "top_k must be an integer.*-1"),
        ({"top_k": 2.5}, "top_k.*2.5"),
        ({"top_k": float("inf")}, "top_k.*inf"),
        ({"top_p": 0}, "top_p must be greater than 0 and at most 1; it is 0"),
        ({"top_p": 1.1}, "top_p.*1.1"),
        ({"top_k": 5}, "change nothing at temperature 0.*pass temperature=1.0"),
        ({"top_p": 0.9}, "change nothing at temperature 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_sampling_needs_a_key_and_greedy_none():
    with pytest.raises(ValueError, match=r"sampling needs a key: pass key=jax\.random\.key"):
        Draw.of(Sampling(temperature=1.0), None)
    draw = Draw.of(Sampling(), None)
    assert next_token(jnp.asarray(LOGITS)[None], draw, jnp.int32(0)).tolist() == [0]
