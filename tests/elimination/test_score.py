import jax.numpy as jnp
import numpy as np
import pytest

from latadj_jax.elimination.score import (
    attention_context_contribution,
    attention_received,
    per_viewer,
    score_vector,
)


def random_attention(batch=3, heads=4, length=7, seed=0):
    """Attention probabilities with padding at the right, at the left and in the middle.

    What queries of padding hold is noise: rows that sum to anything.
    """
    rng = np.random.default_rng(seed)
    valid_BL = np.ones((batch, length), bool)
    valid_BL[0, 5:] = valid_BL[1, :3] = valid_BL[2, 2:4] = False
    logits = rng.normal(0, 2, (batch, heads, length, length))
    logits[~np.broadcast_to(valid_BL[:, None, None, :], logits.shape)] = -np.inf
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    noise = rng.uniform(0, 5, probs.shape)
    probs = np.where(valid_BL[:, None, :, None], probs, noise)
    return probs.astype(np.float32), valid_BL


def test_score_of_the_docstring_example():
    probs = jnp.array([[[[0.5, 0.25, 0.25], [0.7, 0.2, 0.1], [0.6, 0.2, 0.2]]]])
    scores = score_vector(probs, jnp.ones((1, 3), bool))
    np.testing.assert_allclose(scores, [[1.8, 0.65, 0.55]], atol=1e-6)


def test_score_is_a_column_sum_not_a_row_sum():
    """All queries attend to the second key: it has everything."""
    probs = jnp.zeros((1, 1, 4, 4)).at[..., 1].set(1.0)
    np.testing.assert_array_equal(score_vector(probs, jnp.ones((1, 4), bool)), [[0, 4, 0, 0]])


def test_score_averages_over_heads():
    probs = jnp.stack([jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.0]])])[None]
    np.testing.assert_allclose(score_vector(probs, jnp.ones((1, 2), bool)), [[1.5, 0.5]])


def test_score_equals_plain_loops():
    probs, valid = random_attention()
    batch, heads, length, _ = probs.shape
    expected = np.zeros((batch, length))
    for b in range(batch):
        for j in range(length):
            for i in range(length):
                if valid[b, i] and valid[b, j]:
                    expected[b, j] += sum(probs[b, h, i, j] for h in range(heads)) / heads
    np.testing.assert_allclose(score_vector(probs, valid), expected, atol=1e-5)


def test_padding_does_not_vote():
    """A padding query that attends to one key must not lift that key."""
    probs, valid = random_attention()
    shouting = probs.copy()
    shouting[~np.broadcast_to(valid[:, None, :], probs.shape[:3])] = 100.0
    np.testing.assert_array_equal(score_vector(shouting, valid), score_vector(probs, valid))


def test_padding_does_not_score():
    probs, valid = random_attention()
    leaky = probs + np.float32(0.1)  # as if keys of padding were not masked
    assert (np.asarray(score_vector(leaky, valid))[~valid] == 0).all()


def test_score_is_one_on_average_over_valid_positions():
    probs, valid = random_attention()
    sums = np.asarray(score_vector(probs, valid)).sum(axis=1)
    np.testing.assert_allclose(sums / valid.sum(axis=1), 1.0, atol=1e-6)


def test_score_is_float32_for_half_precision_attention():
    """A sum of bfloat16 over many queries would lose small shares."""
    probs = jnp.full((1, 2, 300, 300), 1 / 300, jnp.bfloat16)
    scores = score_vector(probs, jnp.ones((1, 300), bool))
    assert scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, float(jnp.bfloat16(1 / 300)) * 300, rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "valid", "median"),
    [
        ([1.8, 0.65, 0.55], [1, 1, 1], 0.65),
        ([2.5, 0.9, 0.4, 0.2], [1, 1, 1, 1], 0.65),  # an even number: the mean of the middle two
        ([0.0, 1.8, 0.65, 0.55, 0.0], [0, 1, 1, 1, 0], 0.65),  # the zeros are padding
        ([1.0, 0.0, 0.0], [1, 0, 0], 1.0),
    ],
)
def test_acc_is_the_median_over_valid_positions(scores, valid, median):
    acc = attention_context_contribution(jnp.array([scores]), jnp.array([valid], bool))
    np.testing.assert_allclose(acc, [median], atol=1e-6)


def test_queries_that_do_not_exist_give_no_attention():
    """As where the last queries of a prompt are asked, and the prompt is shorter."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(6), size=(2, 3, 4)).astype(np.float32)
    asked = np.array([[True, True, True, True], [True, True, False, False]])
    got = np.asarray(attention_received(jnp.asarray(probs), jnp.asarray(asked)))
    for row, queries in enumerate((4, 2)):
        expected = sum(probs[row, :, i].mean(axis=0) for i in range(queries))
        np.testing.assert_allclose(got[row], expected, rtol=1e-6)


# Where a query sees no later key, eq. (8).


def causal_score_vector(probs, valid):
    return per_viewer(attention_received(probs, valid), valid)


def test_causal_score_of_the_docstring_example():
    probs = jnp.array([[[[1.0, 0.0, 0.0], [0.7, 0.3, 0.0], [0.7, 0.2, 0.1]]]])
    scores = causal_score_vector(probs, jnp.ones((1, 3), bool))
    np.testing.assert_allclose(scores, [[0.8, 0.25, 0.1]], atol=1e-6)


def test_causal_score_is_the_mean_over_the_valid_queries_that_see_a_column():
    """Padding on either side and in the middle: it is neither a column nor one who sees it."""
    probs, valid = random_attention()
    probs = np.tril(probs)
    batch, heads, length, _ = probs.shape
    expected = np.zeros((batch, length))
    for b in range(batch):
        for j in np.flatnonzero(valid[b]):
            seen_by = [i for i in range(j, length) if valid[b, i]]
            votes = [probs[b, h, i, j] for i in seen_by for h in range(heads)]
            expected[b, j] = sum(votes) / heads / len(seen_by)
    np.testing.assert_allclose(causal_score_vector(probs, valid), expected, atol=1e-5)


def test_the_first_tokens_are_not_favoured_for_being_seen_by_more():
    """Everybody attends to the first and to itself alike: a plain sum would be 2.5 to 0.5."""
    probs = jnp.eye(4).at[:, 0].add(1.0) / 2
    scores = causal_score_vector(probs[None, None], jnp.ones((1, 4), bool))
    np.testing.assert_allclose(scores, [[(1 + 3 / 2) / 4, 0.5 / 3, 0.5 / 2, 0.5]], atol=1e-6)
