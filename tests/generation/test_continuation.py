"""A dense continuation on the smaller caches of a pruned prompt: exact, causal, and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle_decoder
import pytest
import tiny

import latadj_jax
from latadj_jax.families.causal import read_prompt
from latadj_jax.model.model import param_shapes

VOCAB = tiny.VOCAB
each_family = pytest.mark.parametrize("family", tiny.CAUSAL)


@pytest.mark.parametrize("alpha", [None, 1.0])
@each_family
def test_continuation_equals_reading_on_from_lists_of_keys_and_values(family, alpha):
    model, params = tiny.make(family, "lm")
    batch, slots = tiny.mixed_batch(family)
    answers = oracle_decoder.expect(model, params, batch, slots, tiny.kept_at(alpha))
    ids = tiny.continuation()
    logits = latadj_jax.continuation_logits(model, params, batch, ids, alpha)
    assert logits.shape == (4, 6, VOCAB)
    assert logits.dtype == jnp.float32
    decoder = oracle_decoder.Decoder(model.config, params)
    for row, (answer, at) in enumerate(zip(answers, slots, strict=True)):
        expected = decoder.continuation(answer, ids[row], at[-1] - at[0] + 1)
        np.testing.assert_allclose(logits[row], expected, atol=2e-4)


@each_family
def test_dense_continuation_equals_reading_everything_at_once(family):
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    prompt, ids = tiny.continuation(9, seed=1), tiny.continuation(7)
    logits = latadj_jax.continuation_logits(model, params, {"input_ids": prompt}, ids)
    whole = {"input_ids": np.concatenate([prompt, ids], axis=1)}
    out = latadj_jax.apply(model, params, whole)
    np.testing.assert_allclose(logits, out.logits[:, 8:], rtol=0, atol=1e-4)


def test_an_empty_continuation_gives_the_logits_after_the_prompt():
    model, params = tiny.make("llama", "lm", num_hidden_layers=1)
    batch, _ = tiny.mixed_batch("llama")
    out = latadj_jax.apply(model, params, batch)
    logits = latadj_jax.continuation_logits(model, params, batch, tiny.continuation(0), 1.0)
    assert logits.shape == (4, 1, VOCAB)
    # The cut of a last layer does not touch the last token.
    last = np.asarray(out.positions).argmax(axis=1)
    np.testing.assert_allclose(logits[:, 0], out.logits[np.arange(4), last], atol=1e-4)


@pytest.mark.parametrize("alpha", [None, 1.0, 0.6])
@each_family
def test_no_logit_depends_on_a_later_token(family, alpha):
    """Promise 3: neither the pruning nor the attention looks ahead of a scored token."""
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    batch, _ = tiny.mixed_batch(family)
    ids = tiny.continuation()
    before = np.asarray(latadj_jax.continuation_logits(model, params, batch, ids, alpha))
    for changed in range(5):
        other = ids.copy()
        other[:, changed] = (other[:, changed] + 1) % VOCAB
        after = np.asarray(latadj_jax.continuation_logits(model, params, batch, other, alpha))
        np.testing.assert_array_equal(after[:, : changed + 1], before[:, : changed + 1])
        differences = np.abs(after - before)[:, changed + 1 :].max(axis=2)
        assert (differences > 1e-3).all()


@each_family
def test_the_end_of_the_prompt_does_steer_its_pruning(family):
    """The other side of causality: its own last queries rank a prompt's tokens."""
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    batch, slots = tiny.mixed_batch(family)
    other = {key: value.copy() for key, value in batch.items()}
    for row, at in enumerate(slots):
        other["input_ids"][row, at[-2:]] = (batch["input_ids"][row, at[-2:]] + 3) % VOCAB
    first, second = (latadj_jax.apply(model, params, b, 1.0).positions for b in (batch, other))
    assert not np.array_equal(first, second)


@each_family
def test_continuation_does_not_depend_on_padding_bucket_or_companions(family):
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    examples = [tiny.example(n, seed, family) for seed, n in enumerate((12, 5, 12, 5))]
    ids = tiny.continuation()
    batch, _ = tiny.padded(examples, "left", 12)
    logits = latadj_jax.continuation_logits(model, params, batch, ids, 0.9)
    # In other company: each follows another, and only two of them are there.
    batch, _ = tiny.padded([examples[3], examples[0]], "both sides", 20)
    others = latadj_jax.continuation_logits(model, params, batch, ids[[3, 0]], 0.9)
    np.testing.assert_allclose(others, logits[np.array([3, 0])], atol=1e-4)


@each_family
def test_each_layer_caches_what_entered_it(family):
    """A pruned prompt leaves smaller caches: layer l's holds N_{l-1} slots, not N_0."""
    model = tiny.make_model(family, "lm")
    plan = model.plan(0.8, 32)
    shape = (2, 32)
    inputs = {
        "input_ids": jax.ShapeDtypeStruct(shape, jnp.int32),
        "attention_mask": jax.ShapeDtypeStruct(shape, bool),
    }
    for last_only in (False, True):

        def prompt(network, inputs, last_only=last_only):
            return read_prompt(network.base, inputs, plan, last_only=last_only)

        _, caches, _ = jax.eval_shape(
            lambda params, inputs, prompt=prompt: model.module.apply(
                {"params": params}, inputs, method=prompt
            ),
            param_shapes(model),
            inputs,
        )
        heads, width = (4, 8) if family == "gpt2" else (2, 12)
        assert plan.counts[:-1] == (17, 13)
        for cache, slots in zip(caches, (32, 17, 13), strict=True):
            assert cache.keys.shape == cache.values.shape == (2, heads, slots, width)
            assert cache.positions.shape == (2, slots)


# Bad input.


def prompt_of(length, **changes):
    return {"input_ids": np.ones((2, length), np.int32), **changes}


BAD = {
    "prompt too long": (prompt_of(41), tiny.continuation(1)[:2], "41 tokens long.*40 positions"),
    "both too long": (prompt_of(30), tiny.continuation(11)[:2], "30 tokens and 11.*40 positions"),
    "empty prompt": (
        prompt_of(0),
        tiny.continuation(1)[:2],
        r"input_ids must be \[B, T\].*\[2, 0\]",
    ),
    "empty row": (
        prompt_of(4, attention_mask=np.array([[1, 1, 0, 0], [0, 0, 0, 0]])),
        tiny.continuation(1)[:2],
        "no valid token in row 1",
    ),
    "other batch": (prompt_of(4), tiny.continuation(1), r"continuation must be \[B, S\].*\[4, 1\]"),
    "one axis": (prompt_of(4), np.ones(2, np.int32), r"continuation must be \[B, S\].*\[2\]"),
    "out of vocabulary": (prompt_of(4), np.full((2, 1), VOCAB), "100..100.*0..99"),
    "floats": (prompt_of(4), np.ones((2, 1)), "must be integers"),
    "unknown key": (
        prompt_of(4, token_type_ids=np.ones((2, 4))),
        tiny.continuation(1)[:2],
        "unknown",
    ),
}


@pytest.mark.parametrize(("prompt", "following", "message"), BAD.values(), ids=BAD)
def test_a_continuation_that_cannot_be_read_is_refused(
    prompt, following, message, count_compilations
):
    model = tiny.make_model("gpt2", "lm")
    with pytest.raises(ValueError, match=message):
        latadj_jax.continuation_logits(model, {}, prompt, following, 0.9)
    assert count_compilations() == 0


def test_a_continuation_needs_a_language_model():
    model = tiny.make_model("gpt2", "features")
    with pytest.raises(ValueError, match=r"task 'lm'.*'features'.*task='lm'"):
        latadj_jax.continuation_logits(model, {}, prompt_of(4), tiny.continuation(1)[:2])


def test_positions_count_from_the_first_token_whatever_the_padding():
    """A row of 40 slots with 5 tokens in its middle leaves room for 35 more."""
    model, params = tiny.make("gpt2", "lm", num_hidden_layers=1)
    mask = np.zeros((1, 40), np.int32)
    mask[0, 20:25] = 1
    prompt = {"input_ids": np.ones((1, 40), np.int32), "attention_mask": mask}
    ids = np.ones((1, 35), np.int32)
    assert np.isfinite(latadj_jax.continuation_logits(model, params, prompt, ids)).all()
    with pytest.raises(ValueError, match="5 tokens and 36 tokens of"):
        latadj_jax.continuation_logits(model, {}, prompt, np.ones((1, 36), np.int32))
