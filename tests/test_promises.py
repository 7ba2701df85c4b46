"""The promises that every family keeps: batch invariance, static shapes, purity.

What equals Hugging Face is in test_parity.py. One line in `tiny.FAMILIES` brings a family into all
of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tolerance import SAME

import latadj_jax
from latadj_jax import Profile, make_plan

STATIC = ("model", "alpha", "plan", "count", "restore", "train", "return_scores")
KINDS = [
    (family, task) for family in tiny.FAMILIES for task in tiny.TASKS[family]
    if family not in tiny.KIN or task == tiny.main_task(family)
]  # fmt: skip
each_kind = pytest.mark.parametrize(("family", "task"), KINDS)
each_family = pytest.mark.parametrize("family", tiny.FAMILIES)
BATCH, LENGTH = 4, 16


def make(family, task=None):
    task = task or tiny.main_task(family)
    return tiny.make(family, task, **tiny.changes_of(family, task))


# 1. What keeps everything is dense.


@pytest.mark.parametrize(("alpha", "profile"), [(5.0, tiny.PROFILE), (1.0, Profile.constant(3))])
@each_family
def test_alpha_that_keeps_everything_is_dense(family, alpha, profile):
    model, params = make(family)
    batch, _ = tiny.mixed_batch(family)
    dense = latadj_jax.apply(model, params, batch)
    kept = latadj_jax.apply(model.replace(profile=profile), params, batch, alpha)
    jax.tree.map(np.testing.assert_array_equal, kept, dense)


@each_family
def test_a_cut_that_removes_nothing_changes_nothing(family):
    """Rates under 1 that round up to every word-vector: the cut runs, and takes all."""
    model, params = make(family)
    batch, slots = tiny.mixed_batch(family)
    dense = latadj_jax.apply(model, params, batch)
    model = model.replace(profile=Profile.constant(3, 1 - 1e-9))
    kept = latadj_jax.apply(model, params, batch, 1.0)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **SAME), kept.logits, dense.logits)
    for row, at in enumerate(slots):
        assert kept.positions[row, : len(at)].tolist() == at.tolist()
        np.testing.assert_allclose(kept.hidden[row, : len(at)], dense.hidden[row, at], atol=1e-5)


@pytest.mark.parametrize(
    ("family", "task", "strategy"),
    [*((*kind, "score") for kind in KINDS), ("bert", "classification", "merge")],
)
def test_float32_products_have_all_their_bits_on_every_device(family, task, strategy):
    """A TPU's or GPU's default would round them, and dense would not be exact. Gradients, too."""
    model, params = make(family, task)
    batch, _ = tiny.mixed_batch(family)
    plan = model.plan(0.5, batch["input_ids"].shape[1], strategy=strategy)

    def loss(params):
        out = latadj_jax.apply(model, params, batch, plan=plan)
        return out.hidden.sum() + (0 if out.logits is None else out.logits.sum())

    def products() -> list[str]:
        lowered = jax.jit(jax.grad(loss)).lower(params).as_text()
        return [line for line in lowered.split("\n") if "stablehlo.dot_general" in line]

    assert len(products()) > 20
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products())
    with jax.default_matmul_precision("bfloat16"):  # for whoever wants it; scores stay exact
        exact = sum("HIGHEST" in line for line in products())
        assert exact <= model.config.num_layers < len(products()) / 10


# 2. Batch invariance.


def examples_of(family, task):
    """Two lengths where it is worth the compilations, else one."""
    lengths = (12, 5, 12, 5) if task == tiny.main_task(family) else (12, 12, 12, 12)
    return [tiny.example(n, seed, family) for seed, n in enumerate(lengths)]


@functools.cache
def alone(family, task, alpha, number):
    """What one example gives by itself, without padding."""
    model, params = make(family, task)
    batch = {key: value[None] for key, value in examples_of(family, task)[number].items()}
    return run(model, params, batch, alpha)


def run(model, params, batch, alpha, **options):
    plan = model.plan(alpha, batch["input_ids"].shape[1], **options)
    return jax.tree.map(np.asarray, latadj_jax.apply(model, params, batch, plan=plan))


def assert_row_is(out, row, start, reference):
    """Row `row` of `out` is the example of `reference`, whose first token lies at `start`."""
    kept = reference.positions[0] >= 0
    expected = reference.positions[0][kept] + start
    np.testing.assert_array_equal(out.positions[row][out.positions[row] >= 0], expected)
    present = out.positions[row] >= 0
    np.testing.assert_allclose(out.hidden[row][present], reference.hidden[0][kept], **SAME)
    for name in ("pooled", "logits"):
        if (value := getattr(reference, name)) is not None:
            ours, value = getattr(out, name)[row], value[0]
            if ours.ndim == 2:  # of every token
                ours, value = ours[present], value[kept]
            np.testing.assert_allclose(ours, value, **SAME)


MATRIX = [
    pytest.param(family, task, alpha, padding, LENGTH, id=f"{family}-{task}-{alpha}-{padding}")
    for family, task in KINDS
    for alpha in ((None, 1.0) if task == tiny.main_task(family) else (1.0,))
    for padding in tiny.PADDINGS
] + [
    pytest.param(family, tiny.main_task(family), 1.0, "left", 24, id=f"{family}-larger bucket")
    for family in tiny.FAMILIES
]


@pytest.mark.parametrize(("family", "task", "alpha", "padding", "length"), MATRIX)
def test_output_does_not_depend_on_padding_bucket_or_companions(
    family, task, alpha, padding, length
):
    model, params = make(family, task)
    batch, slots = tiny.padded(examples_of(family, task), padding, length)
    out = run(model, params, batch, alpha)
    for row, at in enumerate(slots):
        assert_row_is(out, row, at[0], alone(family, task, alpha, row))


@each_family
def test_a_hole_in_the_mask_is_no_word_vector(family):
    """What stands in a hole changes nothing, and a hole does not count."""
    model, params = make(family)
    batch, slots = tiny.mixed_batch(family)
    other = {**batch, "input_ids": np.where(batch["attention_mask"], batch["input_ids"], 55)}
    out, same = (run(model, params, b, 1.0) for b in (batch, other))
    jax.tree.map(np.testing.assert_array_equal, out, same)
    assert (out.positions[3] >= 0).sum() == model.plan(1.0, LENGTH).table[len(slots[3]), -1]


@each_family
def test_padded_counts_follow_the_bucket(family):
    """`count="padded"`: padding goes first, so shorter examples keep more than of their own."""
    model, params = make(family)
    batch, slots = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 1.0, count="padded")
    last = make_plan(tiny.PROFILE, 1.0, LENGTH).counts[-1]
    kept = (np.asarray(out.positions) >= 0).sum(axis=1)
    assert kept.tolist() == [min(len(at), last) for at in slots]
    assert last > make_plan(tiny.PROFILE, 1.0, LENGTH).table[9, -1]


@each_family
def test_output_has_the_shapes_it_says(family):
    model, params = make(family)
    batch, _ = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 1.0, return_scores=True)
    plan = model.plan(1.0, LENGTH)
    shape = None if out.logits is None else out.logits.shape
    assert shape == (None if family == "t5" else (BATCH, 3))
    assert out.hidden.shape == (BATCH, plan.counts[-1], 32)
    has_pooler = family in ("bert", "albert")  # beside a classifier
    assert out.pooled is None if not has_pooler else out.pooled.shape == (BATCH, 32)
    assert out.positions.shape == (BATCH, plan.counts[-1])
    assert out.positions.dtype == jnp.int32
    into = (LENGTH, *plan.counts[:-1])
    assert [s.shape for s in out.scores] == [(BATCH, n) for n in into]
    assert latadj_jax.apply(model, params, batch, 1.0).scores is None


# 4. Static shapes.


@each_family
def test_one_compilation_per_bucket_batch_and_alpha_and_none_after(family, count_compilations):
    model, params = tiny.make(family, num_hidden_layers=1)
    apply = jax.jit(latadj_jax.apply, static_argnames=STATIC)
    rng = np.random.default_rng(0)

    def sweep():
        for shape in ((1, 8), (3, 16)):
            ids = rng.integers(0, tiny.VOCAB, shape).astype(np.int32)
            mask = np.arange(shape[1]) < rng.integers(1, shape[1] + 1, (shape[0], 1))
            for alpha in (None, 0.5):
                apply(model, params, {"input_ids": ids, "attention_mask": mask}, alpha)

    before = count_compilations()
    sweep()
    assert count_compilations() - before <= 2 * 2
    warm = count_compilations()
    assert warm > before  # else nothing is counted
    sweep()
    sweep()
    assert count_compilations() == warm


@each_family
def test_apply_outside_of_jit_compiles_nothing_after_warm_up(family, count_compilations):
    model, params = tiny.make(family, num_hidden_layers=1)
    for seed in range(3):
        batch, _ = tiny.mixed_batch(family)
        batch["input_ids"] = (batch["input_ids"] + seed) % tiny.VOCAB
        # A new model, plan and batch of equal value are the same program.
        latadj_jax.apply(model.replace(alpha=None), params, batch, 0.5)
        if seed == 0:
            warm = count_compilations()
    assert warm > 0
    assert count_compilations() == warm


# 4. Purity: jit, grad, vmap, sharding. Two layers, both cut, at alpha 0.8.


def make_two_layers(family):
    return tiny.make(family, tiny.main_task(family), num_hidden_layers=2)


@each_family
def test_apply_under_jit_is_apply(family):
    model, params = make_two_layers(family)
    batch, _ = tiny.mixed_batch(family)
    out = jax.jit(latadj_jax.apply, static_argnames=STATIC)(
        model, params, batch, 0.8, return_scores=True
    )
    plain = latadj_jax.apply(model, params, batch, 0.8, return_scores=True)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **SAME), out, plain)


@each_family
def test_gradient_is_the_slope_and_reaches_what_was_removed(family):
    """What a layer removes has spoken once more there: it has a gradient, padding has none."""
    model, params = tiny.make(family, tiny.main_task(family), num_hidden_layers=1)
    ids = np.arange(1, 17, dtype=np.int32)[None]  # no token twice
    batch = {"input_ids": ids, "attention_mask": (ids <= 12).astype(np.int32)}

    def loss(params):
        out = latadj_jax.apply(model, params, batch, 0.8)
        return jnp.sum(out.hidden if out.logits is None else out.logits)

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    _, gradient = value_and_grad(params)
    embeddings = gradient.get("embeddings", gradient)
    words = embeddings["shared" if family == "t5" else "word"]["embedding"]
    words = np.abs(words).max(axis=1)
    seen = getattr(model.config, "windows", [None])[0] or 12  # by the last token, which is read
    assert (words[13 - seen : 13] > 1e-6).all()
    assert (words[13:] == 0).all()

    rng = np.random.default_rng(3)
    step = jax.tree.map(lambda x: 1e-4 * rng.normal(size=x.shape).astype(np.float32), params)
    ahead, _ = value_and_grad(jax.tree.map(jnp.add, params, step))
    behind, _ = value_and_grad(jax.tree.map(jnp.subtract, params, step))
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, step)))
    np.testing.assert_allclose((ahead - behind) / 2, slope, rtol=0.02)


@each_family
def test_vmap_is_a_loop(family):
    model, params = make_two_layers(family)
    batch, _ = tiny.mixed_batch(family)
    apply = functools.partial(latadj_jax.apply, model, alpha=0.8)
    flipped = {key: value[::-1] for key, value in batch.items()}
    both = {key: np.stack([batch[key], flipped[key]]) for key in batch}
    out = jax.vmap(lambda b: apply(params=params, batch=b))(both)
    for n, one in enumerate((batch, flipped)):
        expected = apply(params=params, batch=one)
        got = jax.tree.map(lambda x, n=n: x[n], out)
        jax.tree.map(functools.partial(np.testing.assert_allclose, **SAME), got, expected)


@pytest.mark.parametrize("axis", [AxisType.Auto, AxisType.Explicit], ids=str)
@each_family
def test_batch_over_several_devices_is_the_batch_on_one(family, axis):
    """Explicit is what jax.make_mesh makes where nothing else is asked for."""
    model, params = make_two_layers(family)
    batch, _ = tiny.mixed_batch(family)
    mesh = jax.make_mesh((4,), ("data",), (axis,), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    out = jax.jit(latadj_jax.apply, static_argnames=STATIC)(
        model, jax.device_put(params, everywhere), jax.device_put(batch, rows), 0.8
    )
    assert out.hidden.sharding.is_equivalent_to(rows, 3)
    plain = latadj_jax.apply(model, params, batch, 0.8)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **SAME), out, plain)


@each_family
def test_no_host_callback_is_traced(family):
    """A call back to Python would stop every device at every layer."""
    model, params = make_two_layers(family)
    batch, _ = tiny.mixed_batch(family)
    apply = functools.partial(latadj_jax.apply, model, alpha=0.8, train=True, return_scores=True)
    jaxpr = jax.make_jaxpr(lambda p, b, key: apply(params=p, batch=b, rngs={"dropout": key}))(
        params, batch, jax.random.key(0)
    )
    text = str(jaxpr)
    assert "sort" in text  # the elimination is in there
    for primitive in ("callback", "infeed", "outfeed"):
        assert primitive not in text


@pytest.mark.parametrize("family", [*tiny.ENCODERS, *tiny.CAUSAL])
@pytest.mark.parametrize("alpha", [None, 0.8])
def test_a_plan_for_the_head_gives_the_same_logits(family, alpha):
    """Fails where a classifier reads more than what is protected, or padding gets in its place."""
    model, params = tiny.make(family, "classification")
    batch, _ = tiny.mixed_batch(family)
    plan = model.plan(alpha, 16)
    whole = latadj_jax.apply(model, params, batch, plan=plan)
    short = latadj_jax.apply(model, params, batch, plan=plan.for_head())
    np.testing.assert_allclose(short.logits, whole.logits, **SAME)
    assert short.hidden.shape[1] == 1 < whole.hidden.shape[1]
