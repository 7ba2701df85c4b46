"""BERT against plain NumPy that really deletes word-vectors, and what training must not disturb."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import make_plan
from latadj_jax.model.dynamic_counts import simulate


def expect(model, params, batch, slots, keep, prefer=oracle.by_score, merge=False):
    """The oracle's answer for every row of the batch."""
    answers = [
        oracle.run(
            model.config,
            params,
            batch["input_ids"][row, at],
            batch["token_type_ids"][row, at],
            at,
            keep,
            prefer,
            merge,
        )
        for row, at in enumerate(slots)
    ]
    # Float32 could otherwise choose differently by rounding alone; pick another seed then.
    assert min(answer.margin for answer in answers) > 1e-4
    return answers


def assert_agrees(out, answers, atol=3e-5):
    """Kept positions, hidden states, pooled vector, logits and scores of every row."""
    out = jax.tree.map(np.asarray, out)
    for row, answer in enumerate(answers):
        kept = len(answer.slots)
        assert out.positions[row].tolist() == answer.slots + [-1] * (len(out.positions[row]) - kept)
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=atol)
        np.testing.assert_array_equal(out.hidden[row, kept:], 0)
        np.testing.assert_allclose(out.pooled[row], answer.pooled, atol=atol)
        if answer.logits is not None:
            np.testing.assert_allclose(out.logits[row], answer.logits, atol=atol)
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            scores = scores[row]
            # In the first layer word-vectors lie where their tokens do, later on at the front.
            present = answer.at_first if layer == 0 else np.arange(len(expected))
            np.testing.assert_allclose(scores[present], expected, atol=atol)
            assert (np.delete(scores, present) == 0).all()


def run_and_compare(
    alpha, keep, *, task="classification", prefer=oracle.by_score, surplus=False, **options
):
    """Runs a batch with every kind of padding and compares it with the oracle."""
    model, params = tiny.make("bert", task)
    batch, slots = tiny.mixed_batch()
    merge = options.get("strategy") == "merge"
    answers = expect(model, params, batch, slots, keep, prefer, merge)
    for answer, at in zip(answers, slots, strict=True):
        answer.at_first = at
    plan = model.plan(alpha, batch["input_ids"].shape[1], **options)
    if surplus:  # of buffers that have room for everything in every layer
        out = simulate(model, params, batch, plan)
        assert out.hidden.shape[1] == 16 > plan.counts[-1]
    else:
        out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
        assert out.hidden.shape[1] == plan.counts[-1]
    assert_agrees(out, answers)
    return answers


@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_elimination_equals_deleting_rows_one_example_at_a_time(alpha, strategy):
    """Alpha 1 leaves the second layer uncut, 0.8 cuts all three."""
    rates = [min(1.0, alpha * ep) for ep in tiny.PROFILE.rates]
    answers = run_and_compare(alpha, oracle.kept_by_formula(rates), strategy=strategy)
    assert [len(a.slots) for a in answers] == ([6, 3, 2, 3] if alpha == 1.0 else [2, 1, 1, 1])


@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_surplus_of_larger_buffers_is_masked_out(strategy):
    keep = oracle.kept_by_formula(tiny.PROFILE.rates)
    run_and_compare(1.0, keep, surplus=True, strategy=strategy)


@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_padded_counts_follow_the_padded_length(strategy):
    """11, 11, 6 of 16: a row of 9 loses nothing before the last layer, one of 7 only one."""
    counts = make_plan(tiny.PROFILE, 1.0, 16).counts
    assert counts == (11, 11, 6)
    answers = run_and_compare(1.0, oracle.kept_by_table(counts), count="padded", strategy=strategy)
    assert [len(answer.slots) for answer in answers] == [6, 6, 6, 6]


def test_tail_strategy_keeps_the_first_ones():
    rates = tiny.PROFILE.rates
    answers = run_and_compare(
        1.0, oracle.kept_by_formula(rates), prefer=oracle.by_order, strategy="tail"
    )
    assert answers[2].slots == [9, 10]


def random_positions(batch, seed):
    model, params = tiny.make("bert", "classification")
    plan = model.plan(1.0, 16, strategy="random")
    rngs = {"eliminate": jax.random.key(seed)}
    out = latadj_jax.apply(model, params, batch, plan=plan, rngs=rngs)
    return np.asarray(out.positions), plan


def test_random_strategy_keeps_cls_and_the_counts_and_follows_its_key():
    batch, slots = tiny.mixed_batch()
    (first, plan), (again, _), (other, _) = (random_positions(batch, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    for row, at in zip(first, slots, strict=True):
        kept = row[row >= 0]
        assert kept[0] == at[0]
        assert set(kept) <= set(at)
        assert len(kept) == plan.table[len(at), -1]


def test_restore_puts_back_what_each_word_vector_was_when_removed():
    """Fails where a removed one is zero, is from another layer, or lands in another's place."""
    model, params = tiny.make("bert", "classification")
    batch, slots = tiny.mixed_batch()
    answers = expect(model, params, batch, slots, oracle.kept_by_formula(tiny.PROFILE.rates))
    pruned = latadj_jax.apply(model, params, batch, 1.0)
    out = latadj_jax.apply(model, params, batch, 1.0, restore=True)

    mask = batch["attention_mask"] > 0
    np.testing.assert_array_equal(out.positions, np.where(mask, np.arange(16), -1))
    np.testing.assert_array_equal(np.asarray(out.hidden)[~mask], 0)
    for row, answer in enumerate(answers):
        expected = [answer.restored[slot] for slot in slots[row]]
        np.testing.assert_allclose(out.hidden[row, slots[row]], expected, atol=3e-5)
    np.testing.assert_allclose(out.logits, pruned.logits, **SAME)


def test_restoring_a_dense_run_changes_nothing():
    model, params = tiny.make(num_hidden_layers=1)
    batch, _ = tiny.mixed_batch()
    dense = latadj_jax.apply(model, params, batch)
    restored = latadj_jax.apply(model, params, batch, restore=True)
    jax.tree.map(np.testing.assert_array_equal, restored, dense)


def test_real_weights_with_elimination(minilm_folder):
    model, params = latadj_jax.from_pretrained(minilm_folder, "features")
    ids = np.array([101, 1996, 3185, 2001, 2025, 2204, 1010, 2021, 1996, 3772, 2001, 6581, 102])
    batch = {"input_ids": ids[None].astype(np.int32), "token_type_ids": np.zeros((1, 13), np.int32)}
    rates = [0.8] * 6
    at = np.arange(13)
    (answer,) = expect(model, params, batch, [at], oracle.kept_by_formula(rates))
    answer.at_first = at
    out = latadj_jax.apply(model, params, batch, 0.8, return_scores=True)
    assert len(answer.slots) == 2  # 13, 10, 8, 6, 4, 3, 2
    assert_agrees(out, [answer])


def train_and_eval(**dropouts):
    """One pass with dropout and one without, of the same parameters."""
    model, params = tiny.make("bert", "classification", num_hidden_layers=1)
    batch, _ = tiny.mixed_batch()
    plain = latadj_jax.apply(model, params, batch, 1.0, return_scores=True)
    model = tiny.make_model("bert", "classification", num_hidden_layers=1, **dropouts)
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}, "return_scores": True}
    return latadj_jax.apply(model, params, batch, 1.0, **options), plain


def differs(x, y):
    return not np.allclose(x, y, atol=1e-2)


def test_attention_dropout_comes_after_the_score():
    """Dropped attention is noise: it must change what a layer says, not who stays in it."""
    out, plain = train_and_eval(
        attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0, classifier_dropout=0.0
    )
    np.testing.assert_allclose(out.scores[0], plain.scores[0], **SAME)
    np.testing.assert_array_equal(out.positions, plain.positions)
    assert differs(out.pooled, plain.pooled)


def test_hidden_dropout_begins_at_the_embeddings():
    out, plain = train_and_eval(
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.5, classifier_dropout=0.0
    )
    assert differs(out.scores[0], plain.scores[0])


def test_head_dropout_leaves_the_encoder_alone():
    out, plain = train_and_eval(
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0, classifier_dropout=0.5
    )
    np.testing.assert_allclose(out.pooled, plain.pooled, atol=1e-5)
    assert differs(out.logits, plain.logits)


def test_half_precision_is_close_and_keeps_its_dtype():
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = latadj_jax.apply(model.replace(dtype="bfloat16"), half, batch, return_scores=True)
    exact = latadj_jax.apply(model, params, batch, return_scores=True)
    assert out.hidden.dtype == out.pooled.dtype == jnp.bfloat16
    assert out.logits.dtype == out.scores[0].dtype == jnp.float32
    rounded = out.logits.astype(jnp.bfloat16).astype(jnp.float32)
    assert (out.logits != rounded).any()
    np.testing.assert_allclose(out.pooled.astype(jnp.float32), exact.pooled, atol=0.15)
    np.testing.assert_allclose(out.scores[0], exact.scores[0], atol=0.15)
