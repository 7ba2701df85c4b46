"""GPT-2 and Llama against plain NumPy that really deletes word-vectors; restored; in training."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import oracle_decoder
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import make_plan
from latadj_jax.model.dynamic_counts import simulate

LENGTH, VOCAB = 16, tiny.VOCAB
each_family = pytest.mark.parametrize("family", tiny.CAUSAL)


def assert_agrees(out, answers, slots, atol=5e-5):
    """Kept positions, hidden states, logits and scores of every row."""
    out = jax.tree.map(np.asarray, out)
    assert out.pooled is None
    for row, answer in enumerate(answers):
        kept = len(answer.slots)
        assert out.positions[row].tolist() == answer.slots + [-1] * (len(out.positions[row]) - kept)
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=atol)
        np.testing.assert_array_equal(out.hidden[row, kept:], 0)
        if answer.logits is not None:
            np.testing.assert_allclose(out.logits[row], answer.logits, atol=atol)
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            # In the first layer word-vectors lie where their tokens do, later on at the front.
            present = slots[row] if layer == 0 else np.arange(len(expected))
            np.testing.assert_allclose(scores[row][present], expected, atol=atol)
            assert (np.delete(scores[row], present) == 0).all()


def run_and_compare(family, alpha, keep, *, prefer=oracle.by_score, **options):
    """Runs a batch with every kind of padding and compares it with the oracle."""
    model, params = tiny.make(family, "classification")
    batch, slots = tiny.mixed_batch(family)
    answers = oracle_decoder.expect(model, params, batch, slots, keep, prefer)
    plan = model.plan(alpha, LENGTH, **options)
    out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    assert out.hidden.shape[1] == plan.counts[-1]
    assert_agrees(out, answers, slots)
    return answers, simulate(model, params, batch, plan), slots


# Elimination in the prompt.


@pytest.mark.parametrize("alpha", [1.0, 0.8])
@each_family
def test_elimination_equals_deleting_rows_one_example_at_a_time(family, alpha):
    """Alpha 1 leaves the second layer uncut, 0.8 cuts all three."""
    answers, *_ = run_and_compare(family, alpha, tiny.kept_at(alpha))
    assert [len(a.slots) for a in answers] == ([6, 3, 2, 3] if alpha == 1.0 else [2, 1, 1, 1])


def test_surplus_of_larger_buffers_is_masked_out():
    """A simulated run has room for everything in every layer."""
    answers, simulated, slots = run_and_compare("llama", 1.0, tiny.kept_at(1.0))
    assert simulated.hidden.shape[1] == LENGTH
    for row, (answer, at) in enumerate(zip(answers, slots, strict=True)):
        kept = [slot for slot in simulated.positions[row].tolist() if slot >= 0]
        assert kept == answer.slots
        present = np.asarray(simulated.positions[row]) >= 0
        np.testing.assert_allclose(simulated.hidden[row][present], answer.hidden, atol=5e-5)
        assert set(kept) <= set(at)


def test_padded_counts_follow_the_padded_length():
    """11, 11, 6 of 16: a row of 9 loses nothing before the last layer, one of 7 only one."""
    counts = make_plan(tiny.PROFILE, 1.0, LENGTH).counts
    answers, *_ = run_and_compare("gpt2", 1.0, oracle.kept_by_table(counts), count="padded")
    assert [len(answer.slots) for answer in answers] == [6, 6, 6, 6]


@pytest.mark.parametrize(
    ("family", "strategy", "prefer", "kept"),
    [
        ("gpt2", "tail", oracle.by_order, [0, 1, 2, 3, 4, 15]),
        ("llama", "recent", oracle_decoder.by_recency, [0, 1, 2, 3, 14, 15]),
    ],
)
def test_strategies_to_compare_with(family, strategy, prefer, kept):
    answers, *_ = run_and_compare(family, 1.0, tiny.kept_at(1.0), prefer=prefer, strategy=strategy)
    assert answers[0].slots == kept


def test_random_strategy_keeps_the_last_token_and_the_counts_and_follows_its_key():
    model, params = tiny.make("gpt2", "classification")
    batch, slots = tiny.mixed_batch("gpt2")
    plan = model.plan(1.0, LENGTH, strategy="random")

    def positions(seed):
        rngs = {"eliminate": jax.random.key(seed)}
        return np.asarray(latadj_jax.apply(model, params, batch, plan=plan, rngs=rngs).positions)

    np.testing.assert_array_equal(positions(0), positions(0))
    assert not np.array_equal(positions(0), positions(1))
    for row, at in zip(positions(0), slots, strict=True):
        kept = row[row >= 0]
        assert kept[-1] == at[-1]
        assert set(kept) <= set(at)
        assert len(kept) == plan.table[len(at), -1]


@each_family
def test_restore_puts_back_what_each_word_vector_was_when_removed(family):
    """Fails where a removed one is zero, not normed, of another layer, or in another's place."""
    model, params = tiny.make(family, "lm")
    batch, slots = tiny.mixed_batch(family)
    answers = oracle_decoder.expect(model, params, batch, slots, tiny.kept_at(1.0))
    out = latadj_jax.apply(model, params, batch, 1.0, restore=True)
    mask = batch["attention_mask"] > 0
    np.testing.assert_array_equal(out.positions, np.where(mask, np.arange(LENGTH), -1))
    np.testing.assert_array_equal(np.asarray(out.hidden)[~mask], 0)
    decoder = oracle_decoder.Decoder(model.config, params)
    for row, answer in enumerate(answers):
        expected = np.array([answer.restored[slot] for slot in slots[row]])
        np.testing.assert_allclose(out.hidden[row, slots[row]], expected, atol=5e-5)
        logits = decoder.token_logits(expected)
        np.testing.assert_allclose(out.logits[row, slots[row]], logits, atol=2e-4)


def test_restoring_a_dense_run_changes_nothing():
    model, params = tiny.make("llama", num_hidden_layers=1)
    batch, _ = tiny.mixed_batch("llama")
    dense = latadj_jax.apply(model, params, batch)
    restored = latadj_jax.apply(model, params, batch, restore=True)
    jax.tree.map(np.testing.assert_array_equal, restored, dense)


def test_calibration_takes_the_medians_of_the_causal_scores():
    """And they do not depend on padding: its slots count nowhere."""
    model, params = tiny.make("gpt2", "features", num_hidden_layers=2)
    batch, slots = tiny.mixed_batch("gpt2")
    answers = oracle_decoder.expect(model, params, batch, slots, tiny.kept_at(None))
    acc = np.mean([[np.median(s) for s in answer.scores] for answer in answers], axis=0)
    np.testing.assert_allclose(latadj_jax.calibrate(model, params, [batch]).acc, acc, atol=1e-5)


# Training and half precision.


def train_and_eval(family, silenced=None, **dropouts):
    """One pass with dropout and one without, of the same parameters.

    Args:
      silenced: a dense layer whose weights are set to 0.
    """
    off = {"gpt2": ("attn_pdrop", "resid_pdrop", "embd_pdrop")}.get(family, ("attention_dropout",))
    dropouts = dict.fromkeys(off, 0.0) | dropouts
    model, params = tiny.make(family, "classification", num_hidden_layers=1)
    if silenced:
        zeros = jax.tree.map(jnp.zeros_like, params["layer_0"][silenced])
        params = {**params, "layer_0": {**params["layer_0"], silenced: zeros}}
    batch, _ = tiny.mixed_batch(family)
    plain = latadj_jax.apply(model, params, batch, 1.0, return_scores=True)
    model = tiny.make_model(family, "classification", num_hidden_layers=1, **dropouts)
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}, "return_scores": True}
    return latadj_jax.apply(model, params, batch, 1.0, **options), plain


def differs(x, y):
    return not np.allclose(x, y, atol=1e-2)


@pytest.mark.parametrize(
    ("family", "dropout"),
    [("gpt2", "attn_pdrop"), ("gpt2", "resid_pdrop"), ("llama", "attention_dropout")],
)
def test_dropout_comes_after_the_score(family, dropout):
    """Dropped attention is noise: it must change what a layer says, not who stays in it."""
    out, plain = train_and_eval(family, **{dropout: 0.5})
    np.testing.assert_allclose(out.scores[0], plain.scores[0], **SAME)
    np.testing.assert_array_equal(out.positions, plain.positions)
    assert differs(out.logits, plain.logits)


@pytest.mark.parametrize("silenced", ["attention_out", "ff_out"])
def test_both_branches_of_a_layer_have_dropout(silenced):
    """With one of them silent, what changes can only be the other's."""
    out, plain = train_and_eval("gpt2", silenced, resid_pdrop=0.5)
    assert differs(out.logits, plain.logits)


def test_embedding_dropout_begins_at_the_embeddings():
    out, plain = train_and_eval("gpt2", embd_pdrop=0.5)
    assert differs(out.scores[0], plain.scores[0])


@each_family
def test_half_precision_is_close_and_keeps_its_dtype(family):
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    batch, _ = tiny.mixed_batch(family)
    half_model = model.replace(dtype="bfloat16")
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = latadj_jax.apply(half_model, half, batch, return_scores=True)
    exact = latadj_jax.apply(model, params, batch, return_scores=True)
    assert out.hidden.dtype == jnp.bfloat16
    assert out.logits.dtype == out.scores[0].dtype == jnp.float32
    rounded = out.logits.astype(jnp.bfloat16).astype(jnp.float32)
    assert (out.logits != rounded).mean() > 0.5  # padding is 0
    np.testing.assert_allclose(out.scores[0], exact.scores[0], atol=0.05)
    np.testing.assert_allclose(out.hidden.astype(jnp.float32), exact.hidden, atol=0.3)
    shapes = jax.eval_shape(
        lambda p: latadj_jax.continuation_logits(half_model, p, batch, tiny.continuation()), half
    )
    assert shapes.dtype == jnp.float32
