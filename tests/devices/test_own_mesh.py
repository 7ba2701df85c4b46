"""Arrays on a mesh of the user's own: inside `jax.shard_map`, and with explicit axes."""

import functools
from contextlib import nullcontext

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import latadj_jax
from latadj_jax.devices.mesh import AXES


@pytest.mark.parametrize("axes", [("data",), AXES], ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_gradients_inside_shard_map(family, axes):
    """Of bfloat16 models, whose products have gradients of their own; each device has its rows."""
    model, params = tiny.make(family, num_hidden_layers=1)
    model = model.replace(dtype="bfloat16")
    params = jax.tree.map(lambda x: x.astype("bfloat16"), params)
    batch = {"input_ids": np.array([tiny.example(8, n, family)["input_ids"] for n in range(4)])}

    def gradient(params, batch, mean=lambda loss: loss):
        def loss(params):
            out = latadj_jax.apply(model, params, batch, 0.6)
            return mean((out.hidden.astype("float32") ** 2).mean())

        return jax.grad(loss)(params)

    averaged = functools.partial(gradient, mean=lambda loss: jax.lax.pmean(loss, "data"))
    shape = (2,) + (1,) * (len(axes) - 1)
    mesh = jax.make_mesh(shape, axes, (AxisType.Auto,) * len(axes), devices=jax.devices()[:2])
    split = jax.shard_map(averaged, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    got, expected = jax.jit(split)(params, batch), gradient(params, batch)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, atol=0.03 * max(np.abs(b).max(), 0.05), err_msg=str(path))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_text_is_generated_inside_shard_map(num_beams):
    model, params = tiny.make("gpt2", "lm", num_hidden_layers=1)
    prompts = {"input_ids": np.array([tiny.example(8, n, "gpt2")["input_ids"] for n in range(4)])}

    def tokens(params, prompts):
        return latadj_jax.generate(model, params, prompts, 0.6, 5, num_beams=num_beams)

    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    split = jax.shard_map(tokens, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    np.testing.assert_array_equal(jax.jit(split)(params, prompts), tokens(params, prompts))


@pytest.mark.parametrize("is_set", [False, True], ids=["not set", "set"])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_what_a_mesh_with_explicit_axes_computes(family, is_set):
    """The default of jax.make_mesh: gradients, text, calibration; parameters split, too."""
    task = "seq2seq" if family == "t5" else "lm"
    layers = {"num_layers": 1} if family == "t5" else {"num_hidden_layers": 1}
    model, params = tiny.make(family, task, **layers)
    prompts = {"input_ids": np.array([tiny.example(8, n, family)["input_ids"] for n in range(4)])}
    ids = np.ones((4, 2), np.int32)

    def gradient(params, prompts):
        def loss(params):
            logits = latadj_jax.continuation_logits(model, params, prompts, ids, 0.6)
            return jax.nn.log_softmax(logits)[..., 0].mean()

        return jax.grad(loss)(params)

    def found(params, prompts):
        say = functools.partial(latadj_jax.generate, model, params, prompts, 0.6, 4)
        columns = list(latadj_jax.stream(model, params, prompts, 0.6, 3))
        acc = latadj_jax.calibrate(model, params, [prompts]).acc
        return jax.jit(gradient)(params, prompts), say(), say(num_beams=2), columns, acc

    expected = found(params, prompts)
    mesh = jax.make_mesh((2, 2), ("data", "model"), devices=jax.devices()[:4])

    def split(array, spec):
        return jax.device_put(array, NamedSharding(mesh, spec))

    by_columns = jax.tree.map(lambda x: split(x, P(None, "model") if x.ndim == 2 else P()), params)
    with jax.set_mesh(mesh) if is_set else nullcontext():
        got = found(by_columns, {"input_ids": split(prompts["input_ids"], P("data"))})
        if is_set:  # what is on no device yet goes along
            np.testing.assert_array_equal(found(params, prompts)[1], expected[1])
    assert got[1].sharding.spec[0] == "data"
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, got, expected)
