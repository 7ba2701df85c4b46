"""T5 against plain NumPy that really deletes word-vectors; its decoder, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle_t5
import pytest
import tiny

import latadj_jax

LENGTH, VOCAB = 16, tiny.VOCAB
# v1.0, and v1.1 as Flan-T5 is.
KINDS = {
    "v1.0": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mT5": {"model_type": "mt5", "tie_word_embeddings": False},
    "umT5": {"model_type": "umt5", "tie_word_embeddings": False},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind, task="seq2seq", **changes):
    return tiny.make("t5", task, **KINDS[kind], **changes)


def targets(length=6, seed=0):
    """Target ids that begin with the decoder's start token."""
    ids = np.random.default_rng(seed).integers(1, VOCAB, (4, length)).astype(np.int32)
    ids[:, 0] = 0
    return ids


def expect(model, params, batch, slots, keep, merge=False):
    t5 = oracle_t5.T5(model.config, params)
    answers = [
        t5.encode(batch["input_ids"][row, at], at, keep, merge=merge)
        for row, at in enumerate(slots)
    ]
    # Float32 could otherwise choose differently by rounding alone; pick another seed then.
    assert min(answer.margin for answer in answers) > 1e-4
    return t5, answers


@pytest.mark.parametrize(
    ("alpha", "strategy"), [(None, "score"), (1.0, "score"), (0.8, "score"), (0.8, "merge")]
)
@each_kind
def test_elimination_equals_deleting_rows_one_example_at_a_time(kind, alpha, strategy):
    """Positions, hidden states, scores and, through the cross-attention, the decoder's logits."""
    model, params = make(kind)
    model = model.replace(strategy=strategy)
    batch, slots = tiny.mixed_batch("t5")
    merge = strategy == "merge"
    t5, answers = expect(model, params, batch, slots, tiny.kept_at(alpha), merge)
    ids = targets()
    inputs = {**batch, "decoder_input_ids": ids}
    out = jax.tree.map(
        np.asarray, latadj_jax.apply(model, params, inputs, alpha, return_scores=True)
    )
    assert out.logits.shape == (4, 6, VOCAB)
    assert out.pooled is None
    for row, answer in enumerate(answers):
        present = out.positions[row] >= 0
        assert out.positions[row][present].tolist() == answer.slots
        assert out.sizes[row][present].tolist() == answer.sizes
        np.testing.assert_allclose(out.hidden[row][present], answer.hidden, atol=1e-4)
        np.testing.assert_allclose(
            out.logits[row], t5.decode(answer.hidden, answer.sizes, ids[row]), atol=1e-3, rtol=1e-4
        )
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            uncut = layer == 0 or alpha is None
            at = slots[row] if uncut else np.arange(len(expected))
            np.testing.assert_allclose(scores[row][at], expected, atol=1e-4)


def test_the_longest_distances_share_a_bucket_after_a_cut_too():
    """96 positions and a last bucket from 16 on: kept ones are far apart."""
    model, params = make("v1.0")
    examples = [tiny.example(n, n, "t5") for n in (96, 70)]
    batch, slots = tiny.padded(examples, "left", 96)
    _, answers = expect(model, params, batch, slots, tiny.kept_at(0.8))
    out = latadj_jax.apply(model, params, {**batch, "decoder_input_ids": targets()[:2]}, 0.8)
    for row, answer in enumerate(answers):
        present = np.asarray(out.positions[row]) >= 0
        np.testing.assert_allclose(out.hidden[row][present], answer.hidden, atol=1e-4)


@each_kind
def test_restore_puts_back_what_each_word_vector_was_when_removed(kind):
    model, params = make(kind, "features")
    batch, slots = tiny.mixed_batch("t5")
    _, answers = expect(model, params, batch, slots, tiny.kept_at(1.0))
    out = latadj_jax.apply(model, params, batch, 1.0, restore=True)
    mask = batch["attention_mask"] > 0
    np.testing.assert_array_equal(out.positions, np.where(mask, np.arange(LENGTH), -1))
    np.testing.assert_array_equal(np.asarray(out.hidden)[~mask], 0)
    for row, answer in enumerate(answers):
        expected = np.array([answer.restored[slot] for slot in slots[row]])
        np.testing.assert_allclose(out.hidden[row, slots[row]], expected, atol=1e-4)


def test_no_position_is_protected():
    """A source of one token keeps it; of more, any may go: the first and the last did here."""
    model, params = make("v1.0", "features")
    batch, slots = tiny.mixed_batch("t5")
    out = latadj_jax.apply(model, params, batch, 0.8)
    kept = [set(row[row >= 0].tolist()) for row in np.asarray(out.positions)]
    assert any(at[0] not in k for k, at in zip(kept, slots, strict=True))
    assert any(at[-1] not in k for k, at in zip(kept, slots, strict=True))
    one = {"input_ids": np.array([[5]], np.int32)}
    assert latadj_jax.apply(model, params, one, 0.1).positions.tolist() == [[0]]


def test_the_other_ways_to_choose_and_to_count():
    """Tail keeps the first, padded counts by the length of the batch, random follows its key."""
    model, params = make("v1.0")
    batch, slots = tiny.mixed_batch("t5")
    inputs = {**batch, "decoder_input_ids": targets()}
    tail = latadj_jax.apply(model.replace(strategy="tail"), params, inputs, 0.8)
    padded = latadj_jax.apply(model, params, inputs, 0.8, count="padded")
    last = latadj_jax.make_plan(tiny.PROFILE, 0.8, LENGTH).counts[-1]
    for row, at in enumerate(slots):
        first = [slot for slot in tail.positions[row].tolist() if slot >= 0]
        assert first == at[: len(first)].tolist()
        assert (np.asarray(padded.positions[row]) >= 0).sum() == min(len(at), last)
    random = model.replace(strategy="random")
    plan = random.plan(0.8, LENGTH)
    runs = [
        latadj_jax.apply(random, params, inputs, plan=plan, rngs={"eliminate": jax.random.key(k)})
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].logits, runs[1].logits)
    assert np.abs(runs[0].logits - runs[2].logits).max() > 1e-3


@each_kind
def test_continuation_logits_are_those_of_the_decoder(kind):
    """The start token is put before the continuation; no logit depends on a later token."""
    model, params = make(kind)
    batch, _ = tiny.mixed_batch("t5")
    ids = targets()
    logits = latadj_jax.continuation_logits(model, params, batch, ids[:, 1:], 0.8)
    out = latadj_jax.apply(model, params, {**batch, "decoder_input_ids": ids}, 0.8)
    np.testing.assert_allclose(logits, out.logits, atol=1e-4)
    other = ids.copy()
    other[:, 4] = (other[:, 4] + 1) % VOCAB
    changed = latadj_jax.continuation_logits(model, params, batch, other[:, 1:], 0.8)
    np.testing.assert_array_equal(changed[:, :4], logits[:, :4])
    assert (np.abs(changed - logits)[:, 4:].max(axis=2) > 1e-3).all()


@pytest.mark.parametrize("alpha", [None, 0.8])
@each_kind
def test_each_token_is_the_most_likely_after_those_before_it(kind, alpha):
    """The loop over a growing cache and one pass over all targets are the same."""
    model, params = make(kind)
    batch, _ = tiny.mixed_batch("t5")
    tokens = latadj_jax.generate(model, params, batch, alpha, 10, stop_tokens=())
    logits = latadj_jax.continuation_logits(model, params, batch, tokens[:, :-1], alpha)
    np.testing.assert_array_equal(tokens, np.argmax(logits, axis=-1))
    columns = latadj_jax.stream(model, params, batch, alpha, 10, stop_tokens=())
    np.testing.assert_array_equal(np.stack(list(columns), axis=1), tokens)


def test_tokens_do_not_depend_on_padding_bucket_or_companions():
    model, params = make("v1.1")
    examples = [tiny.example(n, n, "t5") for n in (12, 5, 9)]
    batch, _ = tiny.padded(examples, "left", 12)
    tokens = latadj_jax.generate(model, params, batch, 0.8, 8)
    batch, _ = tiny.padded([examples[2], examples[1]], "both sides", 20)
    others = latadj_jax.generate(model, params, batch, 0.8, 8)
    np.testing.assert_array_equal(others, np.asarray(tokens)[[2, 1]])


def test_dropout_is_on_in_training_alone():
    model, params = make("v1.1")
    batch, _ = tiny.mixed_batch("t5")
    batch = {**batch, "decoder_input_ids": targets()}
    rngs = {"dropout": jax.random.key(0)}
    trained = latadj_jax.apply(model, params, batch, 1.0, train=True, rngs=rngs)
    plain = latadj_jax.apply(model, params, batch, 1.0)
    assert not np.allclose(trained.logits, plain.logits, atol=1e-2)
    off = model.replace(config=model.config.with_dropout(0.0))
    same = latadj_jax.apply(off, params, batch, 1.0, train=True, rngs=rngs)
    np.testing.assert_allclose(same.logits, plain.logits, atol=1e-5)


def test_half_precision_is_close_and_keeps_its_dtype():
    model, params = make("v1.1")
    batch, _ = tiny.mixed_batch("t5")
    batch = {**batch, "decoder_input_ids": targets()}
    half_model = model.replace(dtype="bfloat16")
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = latadj_jax.apply(half_model, half, batch, return_scores=True)
    exact = latadj_jax.apply(model, params, batch, return_scores=True)
    assert out.hidden.dtype == jnp.bfloat16
    assert out.logits.dtype == out.scores[0].dtype == jnp.float32
    np.testing.assert_allclose(out.scores[0], exact.scores[0], atol=0.2)
    valid = batch["attention_mask"] > 0
    for ours, theirs in ((out.hidden[valid], exact.hidden[valid]), (out.logits, exact.logits)):
        error = np.abs(np.asarray(ours, np.float32) - theirs)
        assert error.mean() < 0.2 * np.abs(theirs).mean()


BAD = {
    "no targets": ({}, "no 'decoder_input_ids'"),
    "another batch": ({"decoder_input_ids": targets()[:2]}, r"decoder_input_ids must be \[B, S\]"),
    "no axis": ({"decoder_input_ids": np.ones(4, np.int32)}, r"decoder_input_ids.*\[4\]"),
    "empty": ({"decoder_input_ids": np.ones((4, 0), np.int32)}, r"\[4, 0\]"),
    "outside": ({"decoder_input_ids": np.full((4, 2), VOCAB)}, "decoder_input_ids holds 100..100"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_targets_that_cannot_be_read_are_refused(changes, message, count_compilations):
    batch, _ = tiny.mixed_batch("t5")
    with pytest.raises(ValueError, match=message):
        latadj_jax.apply(tiny.make_model("t5", "seq2seq"), {}, {**batch, **changes})
    assert count_compilations() == 0


def test_a_model_without_a_start_token_cannot_generate():
    model = tiny.make_model("t5", "seq2seq", decoder_start_token_id=None)
    with pytest.raises(ValueError, match=r"decoder_start_token_id 100 is outside.*0\.\.99"):
        tiny.make_model("t5", "seq2seq", decoder_start_token_id=100)
    with pytest.raises(ValueError, match="no decoder_start_token_id"):
        latadj_jax.generate(model, {}, {"input_ids": np.ones((1, 4), np.int32)})


def test_a_prompt_with_targets_is_refused():
    model = tiny.make_model("t5", "seq2seq")
    ids = np.ones((1, 4), np.int32)
    with pytest.raises(ValueError, match="no 'decoder_input_ids'"):
        latadj_jax.generate(model, {}, {"input_ids": ids, "decoder_input_ids": ids})


def test_an_empty_source_is_refused():
    model = tiny.make_model("t5", "seq2seq")
    with pytest.raises(ValueError, match=r"input_ids must be \[B, T\]"):
        latadj_jax.generate(model, {}, {"input_ids": np.ones((1, 0), np.int32)})
