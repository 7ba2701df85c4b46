"""The public names, models, and what `apply` takes."""

import inspect

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import Model, Profile, from_pretrained, init_params, make_plan
from latadj_jax.model.model import param_shapes

# Public names


def test_public_names_and_arguments_stay():
    """Others call these; section 5 of the design fixes them."""
    names = "from_pretrained apply calibrate save_pretrained make_plan expected_speedup macs"
    assert {*names.split(), "solve_alpha", "Profile", "Plan"} <= set(latadj_jax.__all__)
    assert all(hasattr(latadj_jax, name) for name in latadj_jax.__all__)
    arguments = inspect.signature(latadj_jax.apply).parameters
    keywords = {k: p.default for k, p in arguments.items() if p.kind is p.KEYWORD_ONLY}
    assert list(arguments)[:4] == ["model", "params", "batch", "alpha"]
    assert arguments["alpha"].default is None
    assert keywords == {
        "plan": None, "count": "valid", "restore": False, "train": False, "rngs": None,
        "return_scores": False,
    }  # fmt: skip
    assert list(inspect.signature(from_pretrained).parameters)[:4] == [
        "source", "task", "num_labels", "dtype",
    ]  # fmt: skip


# The model


def test_models_of_equal_value_are_one_key():
    """Else every load or replace would compile anew."""
    first, second = tiny.make_model(), tiny.make_model()
    assert {first: 1}[second] == 1
    assert first.replace(alpha=0.9) != first
    assert first.replace(profile=Profile.constant(3)) != first


def test_a_model_without_profile_keeps_everything_at_alpha_one():
    model = Model(tiny.make_model().config)
    assert model.profile == Profile.constant(3)
    assert model.alpha is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "translation"},
            "task 'translation'.*features, embedding, classification, multi-label, ranking",
        ),
        ({"profile": Profile.constant(2)}, "profile has 2 layers, the model 3"),
        ({"dtype": "float16"}, "dtype.*float32, bfloat16.*float16"),
        ({"alpha": 0}, "alpha.*greater than 0"),
        ({"alpha": float("nan")}, "alpha.*finite"),
    ],
)
def test_impossible_models_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.make_model().replace(**changes)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_parameters_are_float32_under_x64_too(family):
    with jax.enable_x64(True):
        shapes = param_shapes(tiny.make_model(family))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}


def test_random_parameters_follow_their_seed():
    model = tiny.make_model(num_hidden_layers=1)
    first, again, other = (init_params(model, seed=seed) for seed in (0, 0, 1))
    assert tiny.same_params(first, again)
    assert not tiny.same_params(first, other)


# apply

ids = np.ones((2, 8), np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "alpha.*greater than 0"),
        ({"alpha": float("inf")}, "alpha.*finite"),
        ({"alpha": jax.numpy.float32(0.5)}, "alpha must be a Python number"),
        ({"count": "all"}, "count.*valid, padded"),
        ({"alpha": 0.5, "plan": make_plan(Profile.constant(3), 0.5, 8)}, "alpha and plan"),
        ({"count": "padded", "plan": make_plan(Profile.constant(3), 0.5, 8)}, "the plan's is 'val"),
        ({"plan": make_plan(Profile.constant(3), 0.5, 9)}, "9 tokens.*batch 8 tokens"),
        ({"plan": make_plan(Profile.constant(2), 0.5, 8)}, "2 layers.*has 3 layers"),
        ({"train": True}, "needs a key.*dropout"),
        ({"plan": make_plan(Profile.constant(3), 0.5, 8, strategy="random")}, "key.*eliminate"),
        ({"batch": {}}, "input_ids"),
        ({"batch": {"input_ids": ids, "mask": ids}}, "unknown key 'mask'"),
        ({"batch": {"input_ids": ids[:0]}}, "at least 1"),
        ({"batch": {"input_ids": ids[0]}}, r"\[B, T\]"),
        ({"batch": {"input_ids": [[1, 2], [1]]}}, "input_ids has rows of different.*padding=True"),
        ({"rngs": jax.random.key(0)}, "rngs must be a dict of keys"),
        ({"rngs": {"dropout": np.ones(3, np.uint32)}}, r"rngs\['dropout'\] must be a key"),
        ({"rngs": {"dropout": jax.random.split(jax.random.key(0))}}, r"dropout'\] must be a key"),
        ({"train": True, "rngs": {"dropout": 0}}, r"rngs\['dropout'\] must be a key.*it is 0"),
        ({"batch": {"input_ids": ids * 100}}, "input_ids holds 100"),
        ({"batch": {"input_ids": np.ones((1, 41), np.int32)}}, "41 tokens.*40 positions"),
        ({"batch": {"input_ids": ids, "attention_mask": ids[:, :5]}}, r"attention_mask.*\[2, 8\]"),
        ({"batch": {"input_ids": ids, "attention_mask": ids * 0}}, "no valid token in row 0"),
    ],
)
def test_bad_input_is_refused_before_any_compilation(changes, message, count_compilations):
    model, params = tiny.make()
    batch = changes.pop("batch", {"input_ids": ids})
    before = count_compilations()
    with pytest.raises(ValueError, match=message):
        latadj_jax.apply(model, params, batch, **changes)
    assert count_compilations() == before


def test_apply_does_not_read_the_default_alpha():
    """It is for whoever serves the model; `alpha=None` means dense."""
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    out = latadj_jax.apply(model.replace(alpha=0.5), params, batch)
    assert out.hidden.shape[1] == 16


@pytest.mark.parametrize(
    "wrap", [lambda p: None, lambda p: {}, lambda p: [p], lambda p: {"params": p}]
)
def test_what_are_no_parameters_is_one_sentence(wrap):
    model, params = tiny.make()
    with pytest.raises(ValueError, match="params are not this model's"):
        latadj_jax.apply(model, wrap(params), {"input_ids": ids})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_program_of_any_number_of_rows(family):
    """`apply` under jax.export with a symbolic batch size, with and without a mask."""
    model, params = tiny.make(family, num_hidden_layers=1)
    (rows,) = jax.export.symbolic_shape("B")
    shape = jax.ShapeDtypeStruct((rows, 8), np.int32)
    run = jax.jit(lambda p, batch: latadj_jax.apply(model, p, batch, 0.6).hidden)
    for keys in (("input_ids",), ("input_ids", "attention_mask")):
        exported = jax.export.export(run)(params, dict.fromkeys(keys, shape))
        assert str(exported.out_avals[0].shape[0]) == "B"
    batch = {"input_ids": ids, "attention_mask": ids}
    np.testing.assert_allclose(exported.call(params, batch), run(params, batch), **SAME)


def test_what_a_tokenizer_makes_for_torch_is_read_too():
    torch = pytest.importorskip("torch")
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    of_torch = {key: torch.from_numpy(np.asarray(value)) for key, value in batch.items()}
    out, expected = (latadj_jax.apply(model, params, b, 0.8) for b in (of_torch, batch))
    np.testing.assert_array_equal(out.logits, expected.logits)
