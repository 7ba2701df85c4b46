"""Many devices compute what one does; each holds its part; nothing else is gathered."""

import functools
import json
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
import sharded_run
import tiny

import latadj_jax
from latadj_jax.data.encoded import Encoded
from latadj_jax.devices import param_specs
from latadj_jax.devices.mesh import make_mesh, own_rows, place_own_rows
from latadj_jax.evaluation.evaluate import predict
from latadj_jax.families.registry import FAMILIES as FAMILIES_BY_NAME
from latadj_jax.model import placement
from latadj_jax.model.model import param_shapes
from latadj_jax.tasks.registry import tasks_of
from latadj_jax.training.checkpoints import Checkpoints
from latadj_jax.training.steps import abstract_state, first_state, train_step

MESHES = [(8, 1, 1), (2, 4, 1), (2, 2, 2)]
FAMILIES = ("bert", "deberta-v2", "gpt2", "llama", "t5")
each_family = pytest.mark.parametrize("family", FAMILIES)
# Layers that differ from these in what no mesh splits: on the mesh that splits everything.
SPLIT = [(family, (2, 2, 2)) for family in ("gemma3_text", "modernbert", "mpnet")]


pytestmark = pytest.mark.usefixtures("standard_promotion")


@functools.cache
def on_one_device(family):
    return sharded_run.run(family, sharded_run.ONE_DEVICE)


@pytest.mark.parametrize(
    ("family", "sizes"), [*((f, sizes) for f in FAMILIES for sizes in MESHES), *SPLIT], ids=str
)
def test_losses_equal_those_of_one_device(family, sizes):
    """Fails if a shard computes on others' rows, drops other bits, or sums what it should not."""
    losses, state = sharded_run.run(family, sizes)
    expected, expected_state = on_one_device(family)
    assert np.ptp(expected) > 0.1  # dropout and data change it, and learning
    assert_same_training(losses, state, expected, expected_state)


def assert_same_training(losses, state, expected, expected_state):
    """Losses of each step, and parameters after the last."""
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    ours, theirs = (jax.tree.leaves_with_path(s.params) for s in (state, expected_state))
    for (path, leaf), (_, other) in zip(ours, theirs, strict=True):
        # A bias of keys changes no softmax: its gradient is 0, and Adam makes steps of rounding.
        if jax.tree_util.keystr(path, simple=True, separator="/")[-8:] != "key/bias":
            np.testing.assert_allclose(leaf, other, atol=2e-4, err_msg=str(path))


def test_merging_on_a_mesh():
    """What is merged into what is decided from whole keys, though heads are on two devices.

    Of few steps: between keys that are nearly as near, rounding decides at some step.
    """
    steps = 8
    losses, state = sharded_run.run("bert", (2, 2, 2), steps, strategy="merge")
    expected, one = sharded_run.run("bert", sharded_run.ONE_DEVICE, steps, strategy="merge")
    assert_same_training(losses, state, expected, one)
    assert np.abs(np.subtract(expected, on_one_device("bert")[0][:steps])).max() > 1e-3
    assert not gathered_shapes(compiled_step("bert", (8, 1, 1), strategy="merge"))


@each_family
def test_two_processes_equal_one_device(family):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, sharded_run.__file__, family, "2x2x2", address, "2"]
    both = [
        subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True)
        for n in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    losses = [json.loads(out.strip().split("\n")[-1]) for out, _ in outputs]
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[0], on_one_device(family)[0], rtol=1e-5)


@each_family
def test_each_device_holds_its_part_of_parameters_and_optimizer(family):
    with sharded_run.on_mesh((2, 4, 1)):
        what = sharded_run.step_of(family)
        params = placement.init_params(what.model)
        state = first_state(what.model, what.optimizer, params)
    for leaf in jax.tree.leaves(state):
        if leaf.ndim > 1 and leaf.size >= 32 * 32:
            assert leaf.addressable_shards[0].data.size == leaf.size / 4, leaf.shape
    largest = max(jax.tree.leaves(params), key=lambda leaf: leaf.size)
    assert largest.addressable_shards[0].data.size == largest.size / 4


def test_adam_moments_live_with_their_parameters():
    with sharded_run.on_mesh((2, 2, 2)):
        what = sharded_run.step_of("bert")
        state = first_state(what.model, what.optimizer, placement.init_params(what.model))
    specs = {x.sharding.spec for x in jax.tree.leaves(state.opt_state) if x.ndim == 2}
    assert specs == {x.sharding.spec for x in jax.tree.leaves(state.params) if x.ndim == 2}


def compiled_step(family, sizes, **options) -> str:
    with sharded_run.on_mesh(sizes):
        what = sharded_run.step_of(family, **options)
        state = first_state(what.model, what.optimizer, placement.init_params(what.model))
        batch = place_own_rows(sharded_run.batch_of(family, 0), sharded_run.BATCH)
        key = jax.random.key(0, impl="threefry2x32")
        return train_step.lower(what, state, batch, key).compile().as_text()


def gathered_shapes(text: str) -> list[tuple[int, ...]]:
    found = re.findall(r"= \(?\w+\[([\d,]*)\][^=\n]* all-gather(?:-start)?\(", text)
    return [tuple(int(n) for n in shape.split(",") if n) for shape in found]


@each_family
def test_only_parameters_are_gathered(family):
    """An all-gather of activations would cost what the mesh was to save."""
    what = sharded_run.step_of(family)
    shapes = {leaf.shape for leaf in jax.tree.leaves(param_shapes(what.model))}
    # Kernels of heads may be gathered as [D, H, C], and transposed.
    allowed = {tuple(sorted(n for n in shape if n > 1)) for shape in shapes}
    gathered = gathered_shapes(compiled_step(family, (2, 4, 1)))
    assert gathered, "parameters are split over fsdp and must be gathered to be used"
    for shape in gathered:
        assert tuple(sorted(n for n in shape if n > 1)) in allowed, shape


@each_family
def test_gradients_are_summed_over_devices(family):
    text = compiled_step(family, (8, 1, 1))
    assert re.search(r" all-reduce(-start)?\(", text)
    assert not gathered_shapes(text)  # parameters are whole everywhere


def parameters_of(family: str) -> set[str]:
    most = {
        "llama": {"attention_bias": True, "mlp_bias": True},
        "deberta-v2": {"share_att_key": False, "embedding_size": 24},
    }
    names = set()
    for task in {*tasks_of(FAMILIES_BY_NAME[family])} - {"features"}:
        model = tiny.make_model(family, task, tie_word_embeddings=False, **most.get(family, {}))
        leaves = jax.tree.leaves_with_path(param_shapes(model))
        names |= {jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in leaves}
    return names


def test_every_kernel_and_table_is_split_and_every_pattern_names_some():
    """A new family's parameters have the house's names, or a pattern of their own."""
    every = {family: parameters_of(family) for family in tiny.FAMILIES}
    for pattern in param_specs.PATTERNS:
        found = re.compile(rf"(^|/){pattern}$").search
        assert any(found(name) for names in every.values() for name in names), pattern
    whole = ("encoder_bias/embedding", "decoder_bias/embedding", "relative_bias/embedding",
             "relative/embedding", "classifier/kernel", "classifier/out/kernel",
             "qa_outputs/kernel")  # fmt: skip
    for family, names in every.items():
        for name in names:
            if name.endswith(("/kernel", "/embedding")) and not name.endswith(whole):
                matched = [p for p in param_specs.PATTERNS if re.search(rf"(^|/){p}$", name)]
                assert len(matched) == 1, (family, name)


def test_accumulating_changes_nothing_but_memory():
    """Without dropout; a filler row stands in one part only."""
    whole = [run_without_dropout(accumulate=n, sizes=s) for n, s in
             ((1, (1, 1, 1)), (2, (1, 1, 1)), (2, (2, 2, 1)))]  # fmt: skip
    np.testing.assert_allclose(whole[1], whole[0], rtol=1e-5)
    np.testing.assert_allclose(whole[2], whole[0], rtol=1e-5)


def run_without_dropout(sizes, accumulate=1, family="t5", remat=False):
    with sharded_run.on_mesh(sizes):
        what = sharded_run.step_of(family, accumulate=accumulate)
        model = what.model.replace(config=what.model.config.with_dropout(0.0), remat=remat)
        what = type(what)(model, what.optimizer, what.plans, 0.0, accumulate)
        state = first_state(model, what.optimizer, sharded_run.placed_params(model))
        losses, own = [], own_rows(sharded_run.BATCH)
        for n in range(5):
            rows = {k: v[own] for k, v in sharded_run.batch_of(family, n).items()}
            state, loss = train_step(
                what, state, place_own_rows(rows, sharded_run.BATCH), jax.random.key(0)
            )
            losses.append(float(loss))
        return losses


@each_family
def test_rematerialization_gives_the_same_losses(family):
    plain = run_without_dropout((1, 1, 1), family=family)
    again = run_without_dropout((1, 1, 1), family=family, remat=True)
    np.testing.assert_allclose(again, plain, rtol=1e-5)


def test_rematerialization_is_in_the_program():
    def program(remat):
        what = sharded_run.step_of("bert")
        model = what.model.replace(remat=remat)
        what = type(what)(model, what.optimizer, what.plans)
        state = first_state(model, what.optimizer, tiny.random_params(model))
        batch = sharded_run.batch_of("bert", 0)
        return str(jax.make_jaxpr(functools.partial(train_step, what))(
            state, batch, jax.random.key(0)
        ))  # fmt: skip

    assert "remat" in program(True)
    assert "remat" not in program(False)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)], ids=str)
def test_evaluation_on_a_mesh_counts_every_example_once(sizes):
    """With a last batch that is partly filled up, and one that the mesh does not divide."""
    model = sharded_run.model_of("bert")
    examples = [tiny.example(n % 13 + 3, n) for n in range(21)]
    for example in examples:
        example["input_ids"] %= 96
    data = Encoded(examples, np.zeros(21, np.int32))
    plans = {16: model.plan(0.8, 16)}
    expected = predict(model, tiny.random_params(model), data, plans, 8, "")
    assert len(set(expected.tolist())) > 1
    with sharded_run.on_mesh(sizes):
        params = sharded_run.placed_params(model)
        for batch_size in (8, 5):
            found = predict(model, params, data, plans, batch_size, "")
            np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_folder_loads_in_parts(tmp_path):
    model = sharded_run.model_of("llama")
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(tmp_path, model, params)
    with sharded_run.on_mesh((2, 4, 1)):
        _, loaded = latadj_jax.from_pretrained(tmp_path)
        kernel = loaded["layer_0"]["query"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size / 4
        latadj_jax.save_pretrained(tmp_path / "again", model, loaded)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    again = (Path(tmp_path) / "again" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "model.safetensors").read_bytes()


def test_a_mesh_that_does_not_fit_is_one_sentence():
    for sizes, message in (
        ((3, -1, 1), "mesh data 3 x fsdp -1 x tensor 1 does not fit the 8 devices"),
        ((16, 1, 1), "does not fit the 8 devices of this process"),
        ((-1, -1, 1), "-1 for one of them"),
        ((0, 1, 1), "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_mesh(*sizes)
    with (
        sharded_run.on_mesh((1, 1, 8)),
        pytest.raises(ValueError, match="tensor is 8, which does not divide the 2 heads"),
    ):
        placement.check_heads(sharded_run.model_of("llama"))


def test_a_checkpoint_of_one_mesh_is_restored_on_another(tmp_path):
    """A run may go on with more devices, or fewer."""
    losses, state = sharded_run.run("bert", (2, 4, 1))
    assert len(losses) == sharded_run.STEPS
    with sharded_run.on_mesh((2, 4, 1)), closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(20, state)
    what, next_losses = sharded_run.step_of("bert"), []
    for sizes in ((2, 2, 2), (1, 1, 1)):
        with sharded_run.on_mesh(sizes), closing(Checkpoints(tmp_path)) as checkpoints:
            like = abstract_state(what.model, what.optimizer)
            step, found, _ = checkpoints.restore_newest(like)
            assert step == 20
            jax.tree.map(np.testing.assert_array_equal, found, state)
            placed = jax.tree.map(lambda x, y: x.sharding == y.sharding, found, like)
            assert jax.tree.all(placed)
            # It may be trained on: donated, and in the layout that the step was compiled for.
            batch = place_own_rows(sharded_run.batch_of("bert", 20), sharded_run.BATCH)
            key = jax.random.key(0, impl="threefry2x32")
            trained, loss = train_step(what, found, batch, key)
            next_losses.append(float(loss))
            assert int(trained.step) == 21
    np.testing.assert_allclose(next_losses[0], next_losses[1], rtol=1e-5)
