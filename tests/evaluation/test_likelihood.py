"""Likelihoods: the right tokens, each after its own context, and nothing from behind."""

import functools

import jax
import numpy as np
import pytest
import scipy.special
import tiny

import latadj_jax
from latadj_jax.data.windows import Windows, sliding_windows
from latadj_jax.evaluation.likelihood import score_pairs, score_whole, score_windows

ALPHA = 0.7
each_family = pytest.mark.parametrize("family", tiny.CAUSAL)


def make(family):
    """Both of two layers are cut."""
    return tiny.make(family, "lm", num_hidden_layers=2)


def stream(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, tiny.VOCAB, length).astype(np.int32)


def by_hand(model, params, context, continuation) -> np.ndarray:
    """Log-likelihood of each token, from one example's logits."""
    logits = latadj_jax.continuation_logits(
        model, params, {"input_ids": context[None]}, continuation[None], ALPHA
    )
    logits = np.asarray(logits, np.float64)[0, :-1]
    return scipy.special.log_softmax(logits, axis=-1)[np.arange(len(continuation)), continuation]


@each_family
def test_windows_score_every_token_after_its_own_context(family):
    """Fails where a token is scored by the logits of its neighbour, or a filler counts."""
    model, params = make(family)
    ids = stream(12 + 3 * 5 + 2)
    windows = sliding_windows(ids, context=12, continuation=5)
    plan = model.plan(ALPHA, 12)
    scored = score_windows(model, params, windows, plan, batch_size=3)
    assert scored.tokens.tolist() == [5, 5, 5, 2]
    expected = [
        by_hand(model, params, ids[start - 12 : start], ids[start : start + 5]).sum()
        for start in (12, 17, 22, 27)
    ]
    np.testing.assert_allclose(scored.log_likelihood, expected, rtol=1e-5)
    mean = -sum(expected) / 17
    assert scored.perplexity == pytest.approx(np.exp(mean), rel=1e-5)


@each_family
def test_pairs_of_any_length_are_scored_as_each_alone(family):
    """Fails where padding, batch companions or order change a likelihood."""
    model, params = make(family)
    lengths = [(9, 2), (17, 1), (9, 4), (14, 3), (5, 1)]
    pairs = [(stream(n, seed), stream(m, seed + 50)) for seed, (n, m) in enumerate(lengths)]
    scored = score_pairs(
        model, params, pairs, functools.partial(model.plan, ALPHA), (16, 24), batch_size=2
    )
    expected = [by_hand(model, params, *pair).sum() for pair in pairs]
    np.testing.assert_allclose(scored.log_likelihood, expected, rtol=1e-5)
    assert scored.tokens.tolist() == [2, 1, 4, 3, 1]


def test_greedy_says_whether_all_tokens_of_a_continuation_are_the_most_likely():
    model, params = make("gpt2")
    context = stream(16)
    greedy = np.asarray(
        latadj_jax.generate(model, params, {"input_ids": context[None]}, ALPHA, 3, stop_tokens=())
    )[0]
    last_wrong = greedy.copy()
    last_wrong[2] = (greedy[2] + 1) % tiny.VOCAB
    pairs = [(context, greedy), (context, last_wrong), (context, last_wrong[:2])]
    scored = score_pairs(model, params, pairs, functools.partial(model.plan, ALPHA), (16,))
    assert scored.greedy.tolist() == [True, False, True]


@each_family
def test_sliding_windows_do_not_leak_and_whole_ones_do(family):
    """The reason why "whole" needs its name: there a later token changes what came before."""
    model, params = make(family)
    ids = stream(24)
    changed = ids.copy()
    changed[20:] = (changed[20:] + 11) % tiny.VOCAB

    def before_the_change(text):  # log-likelihood of tokens 12 to 19
        windows = Windows(text[None, :12], text[None, 12:], (np.arange(12, 24) < 20)[None] * 1.0)
        windows = Windows(*windows[:2], windows.weights.astype(np.float32))
        return score_windows(model, params, windows, model.plan(ALPHA, 12)).log_likelihood[0]

    assert before_the_change(ids) == pytest.approx(before_the_change(changed), abs=1e-5)

    def whole(text):
        out = latadj_jax.apply(model, params, {"input_ids": text[None]}, ALPHA, restore=True)
        return np.asarray(jax.nn.log_softmax(out.logits))[0, np.arange(19), text[1:20]].sum()

    assert abs(whole(ids) - whole(changed)) > 1e-3
    scored = score_whole(model, params, np.stack([ids, changed]), model.plan(ALPHA, 24), 2)
    assert scored.tokens.tolist() == [23, 23]


def test_whole_is_the_likelihood_of_restored_logits():
    model, params = make("llama")
    windows_WT = np.stack([stream(16, seed) for seed in range(3)])
    scored = score_whole(model, params, windows_WT, model.plan(ALPHA, 16), batch_size=2)
    out = latadj_jax.apply(model, params, {"input_ids": windows_WT}, ALPHA, restore=True)
    logs = scipy.special.log_softmax(np.asarray(out.logits, np.float64), axis=-1)[:, :-1]
    expected = np.take_along_axis(logs, windows_WT[:, 1:, None], axis=-1).sum(axis=(1, 2))
    np.testing.assert_allclose(scored.log_likelihood, expected, rtol=1e-5)
