"""The strategy that asks the head: of tags and answers, what is settled goes."""

import jax
import numpy as np
import oracle
import pytest
import scipy.special
import tiny
import tiny_run

import latadj_jax
from latadj_jax.families.token_heads import end_of_answer, other_tag


def test_how_open_an_answer_is():
    """Against SciPy; fails where padding takes a share, or the end counts as the beginning."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 2)).astype(np.float32) * 3
    valid = np.array([[True] * 5, [False, True, True, True, False]])
    found = np.exp(end_of_answer(logits, valid))
    for row, real in enumerate(valid):
        both = scipy.special.softmax(logits[row, real], axis=0)
        np.testing.assert_allclose(found[row, real], both.max(axis=1), rtol=1e-5)


def test_how_open_a_tag_is():
    """Fails where it is 1 less the largest probability, which float32 rounds to 0 from 17 on."""
    gaps = np.array([0.0, 9.0, 13.0, 17.0, 60.0], np.float32)
    logits = np.stack([gaps, 0 * gaps, 0 * gaps], axis=-1)[None]
    found = other_tag(logits, np.ones((1, len(gaps)), bool))
    np.testing.assert_allclose(found[0], np.log(2 / (2 + np.exp(gaps, dtype=float))), rtol=1e-5)
    far = other_tag(np.array([[[900.0, 0.0]]], np.float32), np.ones((1, 1), bool))
    assert np.isfinite(far).all()  # settled, and still a number that can be compared


def opened(task, params):
    """What the oracle multiplies scores with: as above, by SciPy."""
    head = params["classifier" if task == "token-classification" else "qa_outputs"]
    kernel, bias = (np.asarray(head[name], np.float64) for name in ("kernel", "bias"))

    def tags(rows):
        return 1 - scipy.special.softmax(rows @ kernel + bias, axis=1).max(axis=1)

    def ends(rows):
        return scipy.special.softmax(rows @ kernel + bias, axis=0).max(axis=1)

    return tags if task == "token-classification" else ends


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_what_is_settled_goes(task):
    """Against the oracle, with padding on every side; other tokens stay than of "merge"."""
    model, params = tiny.make("bert", task)
    batch, slots = tiny.mixed_batch()
    plan = model.plan(0.9, 16, strategy="undecided")
    out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    head = params["classifier" if task == "token-classification" else "qa_outputs"]
    others = 0
    for row, at in enumerate(slots):
        given = (model.config, params, batch["input_ids"][row, at])
        given += (batch["token_type_ids"][row, at], at, tiny.kept_at(0.9))
        answer = oracle.run(*given, merge=True, opened=opened(task, params))
        assert answer.margin > 1e-5
        assert sorted({*np.asarray(out.left[row]).tolist()} - {-1}) == answer.slots
        others += answer.slots != oracle.run(*given, merge=True).slots
        restored = np.array([answer.restored[slot] for slot in at])
        expected = restored @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
        np.testing.assert_allclose(out.logits[row, at], expected, atol=1e-4)
    assert others >= 1


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_every_base_model_asks_its_head(family, task):
    """Jitted and not, another text beside it or not; fails where a family hands no reading on."""
    model, params = tiny.make(family, task)
    batch, _ = tiny.mixed_batch(family)
    model = model.replace(strategy="undecided")
    out = latadj_jax.apply(model, params, batch, 0.8)
    jitted = jax.jit(latadj_jax.apply, static_argnames=("model", "alpha"))
    np.testing.assert_allclose(
        jitted(model=model, params=params, batch=batch, alpha=0.8).logits, out.logits, atol=1e-4
    )
    alone = latadj_jax.apply(model, params, {k: x[1:2] for k, x in batch.items()}, 0.8)
    np.testing.assert_allclose(alone.logits[0], out.logits[1], atol=1e-4)
    merged = latadj_jax.apply(model.replace(strategy="merge"), params, batch, 0.8).logits
    assert np.abs(merged - out.logits).max() > 1e-3


def test_who_has_no_answer_for_each_token_is_told():
    model, _ = tiny.make("bert", "classification")
    sentence = (
        "strategy 'undecided' is for models that answer for each token, tags or answers; this "
        "one is for 'classification'"
    )
    with pytest.raises(ValueError, match=sentence):
        model.replace(strategy="undecided")
    with pytest.raises(ValueError, match=sentence):
        model.plan(0.9, 16, strategy="undecided")


def test_without_its_head_a_model_merges(tmp_path):
    """A folder of tags read as features: nobody is there to be asked."""
    model, params = tiny.make("bert", "token-classification")
    model = model.replace(strategy="undecided", alpha=0.8)
    latadj_jax.save_pretrained(tmp_path / "tags", model, params, tiny_run.tokenizer(tmp_path))
    assert latadj_jax.from_pretrained(tmp_path / "tags")[0].strategy == "undecided"
    features, _ = latadj_jax.from_pretrained(tmp_path / "tags", task="features")
    assert (features.strategy, features.alpha) == ("merge", 0.8)


@pytest.mark.parametrize(("family", "products"), [("bert", 0), ("modernbert", 1)])
def test_the_head_s_work_is_counted(family, products):
    """Of each token that enters a layer which removes some: width times 2, and width times width
    where the head has a product of its own before its logits."""
    model, _ = tiny.make(family, "question-answering")
    plans = [model.plan(0.9, 16, strategy=name) for name in ("undecided", "merge")]
    more = np.subtract(*(latadj_jax.layer_macs(model, plan) for plan in plans))
    removing = [n for n, left in zip(plans[0].into, plans[0].counts, strict=True) if left < n]
    width = model.config.hidden_size
    assert more[more > 0].tolist() == [width * (products * width + 2) * n for n in removing]
