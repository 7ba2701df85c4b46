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

# One of three layers does not run at alpha 0.8, and one that runs removes.
SECOND = Profile((1.0, 1.0, 1.0), exponents=(0, 0, 1), skip_at=(0, 0.8, 0))
LAST = Profile((1.0, 1.0, 1.0), exponents=(0, 0, 1), skip_at=(0, 0, 0.8))  # its cut goes before it
SKIPS = {1: SECOND, 2: LAST}
REMOVES = Profile((1.0, 1.0), exponents=(0, 1))


def without(layer: int, model, params):
    """The same model of two layers: all but this one, from 0."""

    def renamed(name: str) -> str | None:
        numbered = re.fullmatch(r"((?:encoder_)?layer_)(\d)", name)
        if not numbered:
            return name
        number = int(numbered[2])
        return None if number == layer else f"{numbered[1]}{number - (number > layer)}"

    values = {f.name: getattr(model.config, f.name) for f in dataclasses.fields(model.config)}
    by_layer = ("layer_types", "rotates")  # what a config says of each layer
    fewer = {k: (*v[:layer], *v[layer + 1 :]) for k, v in values.items() if k in by_layer}
    config = dataclasses.replace(model.config, num_layers=2, **fewer)
    kept = {renamed(name): value for name, value in params.items() if renamed(name)}
    return model.replace(config=config, profile=REMOVES), kept


# How many stay, a plan says: for padded counts a family of each kind is enough.
@pytest.mark.parametrize(
    ("family", "count"),
    [(family, "valid") for family in tiny.FAMILIES]
    + [(family, "padded") for family in ("bert", "gpt2", "t5")],
)
@pytest.mark.parametrize("layer", SKIPS)
def test_it_is_the_model_without_them(family, layer, count):
    model, params = tiny.make(family, tiny.main_task(family))
    model = model.replace(profile=SKIPS[layer])
    small, of_small = without(layer, model, params)
    batch, _ = tiny.mixed_batch(family)
    asked = {"alpha": 0.8, "count": count, "return_scores": True}
    for restore in (False, True):
        out = latadj_jax.apply(model, params, batch, restore=restore, **asked)
        expected = latadj_jax.apply(small, of_small, batch, restore=restore, **asked)
        for name in ("logits", "hidden", "pooled", "positions", "sizes", "left"):
            ours, theirs = getattr(out, name), getattr(expected, name)
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, **SAME, err_msg=name)
    assert out.scores[layer] is None
    scores, entered = (
        [x for n, x in enumerate(xs) if n != layer] for xs in (out.scores, out.entered)
    )
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, **SAME),
        (scores, entered),
        (list(expected.scores), list(expected.entered)),
    )
    slower = latadj_jax.apply(model, params, batch, 0.81)
    assert np.abs(np.asarray(slower.hidden[0, 0] - out.hidden[0, 0])).max() > 1e-3


@pytest.mark.parametrize("layer", SKIPS)
@pytest.mark.parametrize("family", [*tiny.CAUSAL, "t5"])
def test_what_it_writes_is_what_the_model_without_them_writes(family, layer):
    """A layer that the prompt skips has no cache, and what follows skips it as well."""
    model, params = tiny.make(family, "seq2seq" if family == "t5" else "lm")
    model = model.replace(profile=SKIPS[layer])
    parts = (model, params), without(layer, model, params)
    batch, _ = tiny.mixed_batch(family)
    found, expected = (
        latadj_jax.continuation_logits(*part, batch, tiny.continuation(3), alpha=0.8)
        for part in parts
    )
    np.testing.assert_allclose(found, expected, **SAME)
    for options in ({}, {"num_beams": 3}):
        written, wanted = (
            latadj_jax.generate(*part, batch, alpha=0.8, max_new_tokens=5, **options)
            for part in parts
        )
        np.testing.assert_array_equal(written, wanted)


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_it_depends_on_nothing_but_the_text_and_is_trained_where_it_runs(family):
    """A row alone is what it is in a batch; the layer that is skipped has no gradient."""
    model, params = tiny.make(family, tiny.main_task(family))
    model = model.replace(profile=SECOND)
    batch, slots = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 0.8, restore=True)
    for row, at in enumerate(slots[:3]):  # the last has holes, which are positions of their own
        alone = {key: np.asarray(value)[row : row + 1][:, at] for key, value in batch.items()}
        expected = latadj_jax.apply(model, params, alone, 0.8, restore=True)
        np.testing.assert_allclose(out.hidden[row, at], expected.hidden[0], **SAME)

    def loss(params, trained):
        return latadj_jax.apply(trained, params, batch, 0.8).hidden.sum()

    for remat in (False, True):
        gradients = jax.grad(loss)(params, model.replace(remat=remat))
        sizes = jax.tree.map(lambda g: float(np.abs(g).max()), gradients)
        of_layer = [max(jax.tree.leaves(sizes[n])) for n in sorted(sizes) if "layer_" in n]
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
