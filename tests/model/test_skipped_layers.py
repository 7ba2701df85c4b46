"""A model that skips layers is the model without them: in every family, and whatever it writes."""

import dataclasses
import re

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import Profile
from latadj_jax.model.dynamic_counts import simulate

# The second of three layers does not run at alpha 0.8, and only the third removes anything.
SKIPS = Profile((1.0, 1.0, 1.0), exponents=(0, 0, 1), skip_at=(0, 0.8, 0))
REMOVES = Profile((1.0, 1.0), exponents=(0, 1))


def without_second(model, params):
    """The same model of two layers: the first and the third."""

    def kept(tree):
        found = {}
        for name, value in tree.items():
            numbered = re.fullmatch(r"((?:encoder_)?layer_)(\d)", name)
            if numbered and numbered[2] == "1":
                continue
            name = f"{numbered[1]}1" if numbered and numbered[2] == "2" else name
            found[name] = value
        return found

    config = dataclasses.replace(model.config, num_layers=2)
    return model.replace(config=config, profile=REMOVES), kept(params)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_it_is_the_model_without_them(family, restore):
    model, params = tiny.make(family, tiny.main_task(family))
    model = model.replace(profile=SKIPS)
    small, of_small = without_second(model, params)
    batch, _ = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 0.8, restore=restore, return_scores=True)
    expected = latadj_jax.apply(small, of_small, batch, 0.8, restore=restore, return_scores=True)
    for name in ("logits", "hidden", "pooled", "positions", "sizes", "left"):
        ours, theirs = getattr(out, name), getattr(expected, name)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, **SAME, err_msg=name)
    assert out.scores[1] is None
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **SAME),
        (out.scores[0], out.scores[2], out.entered[0], out.entered[2]),
        (*expected.scores, *expected.entered),
    )
    slower = latadj_jax.apply(model, params, batch, 0.81)
    assert np.abs(np.asarray(slower.hidden[0, 0] - out.hidden[0, 0])).max() > 1e-3


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_what_it_writes_is_what_the_model_without_them_writes(family):
    model, params = tiny.make(family, "lm")
    model = model.replace(profile=SKIPS)
    small, of_small = without_second(model, params)
    batch, _ = tiny.mixed_batch(family)
    following = np.array([[3, 4, 5]] * 4, np.int32)
    found, expected = (
        latadj_jax.continuation_logits(*parts, batch, following, alpha=0.8)
        for parts in ((model, params), (small, of_small))
    )
    np.testing.assert_allclose(found, expected, **SAME)
    written, wanted = (
        latadj_jax.generate(*parts, batch, alpha=0.8, max_new_tokens=6)
        for parts in ((model, params), (small, of_small))
    )
    np.testing.assert_array_equal(written, wanted)


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_it_depends_on_nothing_but_the_text_and_is_trained_where_it_runs(family):
    """A row alone is what it is in a batch; the layer that is skipped has no gradient."""
    model, params = tiny.make(family, tiny.main_task(family))
    model = model.replace(profile=SKIPS)
    batch, slots = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 0.8, restore=True)
    for row, at in enumerate(slots[:3]):  # the last has holes, which are positions of their own
        alone = {key: np.asarray(value)[row : row + 1][:, at] for key, value in batch.items()}
        expected = latadj_jax.apply(model, params, alone, 0.8, restore=True)
        np.testing.assert_allclose(out.hidden[row, at], expected.hidden[0], **SAME)

    def loss(params):
        return latadj_jax.apply(model, params, batch, 0.8).hidden.sum()

    sizes = jax.tree.map(lambda g: float(np.abs(g).max()), jax.grad(loss)(params))
    of_layer = [max(jax.tree.leaves(sizes[name])) for name in sorted(sizes) if "layer_" in name]
    assert [size > 0 for size in of_layer] == [True, False, True]


def test_merging_and_counts_at_run_time_skip_as_well():
    model, params = tiny.make("bert", "classification")
    model = model.replace(profile=Profile((0.9, 0.8, 0.7), skip_at=(0, 0.9, 0)), strategy="merge")
    batch, _ = tiny.mixed_batch()
    plan = model.plan(0.9, 16)
    assert plan.skipped == (2,)
    out = latadj_jax.apply(model, params, batch, 0.9)
    valid_B = np.asarray(batch["attention_mask"]).sum(axis=1)
    assert (out.positions >= 0).sum(axis=1).tolist() == plan.table[valid_B, -1].tolist()
    merged = plan.table[valid_B, -1] > 1  # CLS alone receives nothing
    assert merged.sum() == 3
    np.testing.assert_allclose(out.sizes.sum(axis=1)[merged], valid_B[merged], rtol=1e-6)
    found = simulate(model, params, batch, plan)
    np.testing.assert_allclose(found.logits, out.logits, **SAME)
