"""Merging, where it is more than what test_bert.py compares with the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import Profile, make_plan
from latadj_jax.elimination.merging import group_removed

# CLS points where the fourth does; the second is long.
KEYS = jnp.array([[[1.0, 20.0], [30.0, 0.0], [0.0, 1.0], [0.1, 2.0], [3.0, 0.1], [5.0, 5.0]]])
VALID = jnp.array([[True, True, True, True, True, False]])
CLS = jnp.array([[True, False, False, False, False, False]])


def group(keep, sizes=(1, 1, 1, 1, 1, 1), removed=3):
    keep, sizes = jnp.array([keep], jnp.int32), jnp.array([sizes], jnp.float32)
    return group_removed(KEYS, keep, VALID, CLS, sizes, removed)


def test_each_joins_the_kept_one_whose_key_points_its_way():
    """Not the one of the largest product, nor CLS, which is nearer; padding goes nowhere."""
    groups = group([0, 1, 2])
    assert groups.gone_BR.tolist() == [[3, 4, 6]]
    assert groups.sizes_BK.tolist() == [[1, 2, 2]]
    x = jnp.array([[[1.0], [2.0], [3.0], [5.0], [8.0], [99.0]]])
    assert groups.mean(x).tolist() == [[[1.0], [5.0], [4.0]]]


def test_the_mean_is_over_tokens():
    groups = group([0, 1, 2], sizes=(1, 3, 1, 1, 1, 1))
    x = jnp.array([[[1.0], [2.0], [3.0], [5.0], [10.0], [99.0]]])
    assert groups.sizes_BK.tolist() == [[1, 4, 2]]
    assert groups.mean(x).tolist() == [[[1.0], [4.0], [4.0]]]


def test_what_only_cls_could_receive_is_gone():
    groups = group([0, 6], removed=4)  # the second slot holds nothing
    assert not groups.into_BKR.any()
    assert groups.mean(KEYS)[0, 0].tolist() == KEYS[0, 0].tolist()
    assert np.isfinite(groups.mean(KEYS)).all()


def same_words():
    """CLS and one word over and over, at no position: word-vectors that are all alike."""
    model, params = tiny.make("bert", "classification")
    embeddings = {**params["embeddings"], "position": {"embedding": jnp.zeros((40, 32))}}
    ids = np.array([[1, *[5] * 11], [1, *[9] * 11]], np.int32)
    return model, {**params, "embeddings": embeddings}, {"input_ids": ids}


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_what_is_alike_is_merged_without_loss(dtype, atol):
    """Attention counts one that stands for several as so many: nothing is lost; by score it is."""
    model, params, batch = same_words()
    model = model.replace(dtype=dtype)
    dense = latadj_jax.apply(model, params, batch).logits
    plan = make_plan(Profile((0.6, 0.5, 0.7)), 1.0, 12, strategy="merge")
    assert plan.counts == (7, 3, 2)
    merged = latadj_jax.apply(model, params, batch, plan=plan)
    np.testing.assert_allclose(merged.logits, dense, atol=atol)
    removed = latadj_jax.apply(model.replace(profile=Profile(plan.rates)), params, batch, 1.0)
    assert np.abs(removed.logits - dense).max() > 1e-3


def test_gradients_flow_through_what_was_merged():
    """Alike ones merged: the gradients, too, are those of the dense model."""
    model, params, batch = same_words()
    plan = make_plan(Profile((0.6, 0.5, 0.7)), 1.0, 12, strategy="merge")

    def loss(params, plan):
        return jnp.sum(jnp.square(latadj_jax.apply(model, params, batch, plan=plan).logits))

    merged, dense = (jax.grad(loss)(params, p) for p in (plan, model.plan(None, 12)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SAME), merged, dense)


def test_padding_and_companions_change_nothing():
    model, params = tiny.make("bert", "classification")
    model = model.replace(strategy="merge")
    batch, slots = tiny.mixed_batch()
    together = latadj_jax.apply(model, params, batch, 0.9).logits
    for row, at in enumerate(slots[:3]):  # padded left, right, and not at all
        alone = {key: value[row : row + 1, at] for key, value in batch.items()}
        by_itself = latadj_jax.apply(model, params, alone, 0.9).logits[0]
        np.testing.assert_allclose(together[row], by_itself, atol=1e-5)


def test_a_cut_that_removes_nothing_changes_nothing():
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    dense = latadj_jax.apply(model, params, batch).logits
    plan = make_plan(Profile.constant(3, 1 - 1e-9), 1.0, 16, strategy="merge")
    assert plan.removed == (0, 0, 0)
    kept = latadj_jax.apply(model, params, batch, plan=plan).logits
    np.testing.assert_allclose(kept, dense, atol=1e-5)


@pytest.mark.parametrize("count", ["valid", "padded"])
def test_a_plan_knows_the_most_that_a_layer_removes(count):
    plan = make_plan(Profile((0.8, 0.55, 1.0, 0.3)), 1.0, 23, count=count)
    counts = np.asarray(plan.example_counts(np.arange(24)))
    into = np.concatenate([np.arange(24)[:, None], counts[:, :-1]], axis=1)
    assert plan.removed == tuple((into - counts).max(axis=0))


def test_decoders_do_not_merge():
    for family in tiny.CAUSAL:
        model, _ = tiny.make(family)
        with pytest.raises(ValueError, match="'merge' is for other models"):
            model.replace(strategy="merge")
    with pytest.raises(ValueError, match="'merge' is for other models"):
        tiny.make("gpt2")[0].plan(0.9, 8, strategy="merge")


def test_a_saved_model_goes_on_merging(tmp_path):
    model, params = tiny.make("bert", "classification")
    model = model.replace(strategy="merge", alpha=0.9)
    latadj_jax.save_pretrained(tmp_path, model, params)
    loaded, again = latadj_jax.from_pretrained(tmp_path)
    assert loaded == model
    batch, _ = tiny.mixed_batch()
    for alpha in (0.9, None):
        np.testing.assert_array_equal(
            latadj_jax.apply(loaded, again, batch, alpha).logits,
            latadj_jax.apply(model, params, batch, alpha).logits,
        )


def test_macs_count_what_merging_computes():
    """XLA's own count of the two programs differs by twice as many FLOPs, and little else."""
    sizes = {"hidden_size": 128, "max_position_embeddings": 160, "num_hidden_layers": 2}
    model, params = tiny.make("bert", "classification", **sizes)
    batch = {"input_ids": jnp.ones((1, 160), jnp.int32)}
    found = {}
    for strategy in ("score", "merge"):
        plan = make_plan(Profile((0.5, 0.5)), 1.0, 160, strategy=strategy)
        apply = jax.jit(latadj_jax.apply, static_argnames=("model", "plan"))
        compiled = apply.lower(model, params, batch, plan=plan).compile()
        found[strategy] = compiled.cost_analysis()["flops"], latadj_jax.macs(model, plan)
    flops, macs = (after - before for before, after in zip(*found.values(), strict=True))
    assert flops == pytest.approx(2 * macs, rel=0.1)


@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_sizes_say_how_many_tokens_each_word_vector_stands_for(strategy):
    """Merged ones stand for all tokens but those of CLS; forgotten ones for nothing."""
    model, params = tiny.make("bert", "classification")
    batch, slots = tiny.mixed_batch()
    plan = model.plan(1.0, 16, strategy=strategy)
    out = latadj_jax.apply(model, params, batch, plan=plan)
    kept_BK = np.asarray(out.positions) >= 0
    assert out.sizes.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(out.sizes)[~kept_BK], 0)
    tokens = [len(at) for at in slots]
    expected = tokens if strategy == "merge" else kept_BK.sum(axis=1)
    np.testing.assert_allclose(out.sizes.sum(axis=1), expected, rtol=1e-6)
    assert (out.sizes.max() > 1) == (strategy == "merge")
    for whole in (
        latadj_jax.apply(model, params, batch),
        latadj_jax.apply(model, params, batch, plan=plan, restore=True),
    ):
        np.testing.assert_array_equal(whole.sizes, batch["attention_mask"].astype(np.float32))
