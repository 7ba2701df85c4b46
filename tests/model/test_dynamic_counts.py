"""Counts known only at run time give what a plan of the same counts gives."""

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax.model.dynamic_counts import simulate


@pytest.mark.parametrize(
    ("family", "strategy"), [*((family, "score") for family in tiny.FAMILIES), ("bert", "merge")]
)
def test_one_program_gives_what_each_plan_gives(family, strategy, count_compilations):
    model, params = tiny.make(family, tiny.main_task(family))
    model = model.replace(strategy=strategy)
    batch, _ = tiny.mixed_batch(family)
    simulate(model, params, batch, model.plan(0.5, 16))
    compiled = count_compilations()
    found = {alpha: simulate(model, params, batch, model.plan(alpha, 16)) for alpha in (None, 0.8)}
    assert count_compilations() == compiled
    for alpha, out in found.items():
        expected = latadj_jax.apply(model, params, batch, alpha, return_scores=True)
        for row in range(4):
            of_row, of_expected = (
                np.asarray(x.hidden[row])[np.asarray(x.positions[row]) >= 0]
                for x in (out, expected)
            )
            np.testing.assert_allclose(of_row, of_expected, **SAME)
            for entered, expected_entered in zip(out.entered, expected.entered, strict=True):
                there, expected_there = (
                    set(np.asarray(x[row]).tolist()) - {-1} for x in (entered, expected_entered)
                )
                assert there == expected_there
        if out.logits is not None:
            np.testing.assert_allclose(out.logits, expected.logits, **SAME)


@pytest.mark.parametrize("removed_as", ["left", "joined"])
def test_every_token_is_answered_for_as_in_apply(removed_as):
    model, params = tiny.make("bert", "token-classification")
    model = model.replace(strategy="merge", removed_as=removed_as)
    batch, slots = tiny.mixed_batch()
    found = simulate(model, params, batch, model.plan(0.8, 16))
    expected = latadj_jax.apply(model, params, batch, 0.8)
    for row, at in enumerate(slots):
        np.testing.assert_allclose(found.logits[row, at], expected.logits[row, at], **SAME)


def test_counts_may_be_given_for_each_example():
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    counts = np.array([[10, 5, 1], [9, 9, 9], [7, 3, 3], [4, 4, 2]])
    out = simulate(model, params, batch, counts)
    assert [(np.asarray(p) >= 0).sum(axis=1).tolist() for p in (*out.entered[1:], out.positions)] \
        == counts.T.tolist()  # fmt: skip


@pytest.mark.parametrize("counts", [[[3, 4, 4]], [[3, 2, 0]]])
def test_impossible_counts_are_refused(counts):
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    with pytest.raises(ValueError, match="counts must not rise along the layers"):
        simulate(model, params, batch, np.array(counts))
    with pytest.raises(ValueError, match="is for other models"):
        simulate(model, params, batch, np.array([[3, 2, 1]]), "recent")
    with pytest.raises(ValueError, match="the plan is for 3 layers and 8 tokens"):
        simulate(model, params, batch, model.plan(0.8, 8))


def test_of_a_seq2seq_model_the_encoder_is_wanted():
    model, params = tiny.make("t5", "seq2seq")
    batch, _ = tiny.mixed_batch("t5")
    with pytest.raises(ValueError, match=r"pass model\.encoder"):
        simulate(model, params, batch, np.array([[3, 2, 1]]))
    jax.clear_caches()
