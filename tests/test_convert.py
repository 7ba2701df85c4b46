"""Reading weights: every format gives the same parameters, and nothing is lost in silence."""

import json
import re
import sys
from pathlib import Path

import flax
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tiny

import latadj_jax
from latadj_jax.weights import WeightsError, read_tensors


def layer_tensors(n: int, d: int = 32, f: int = 48) -> dict[str, tuple[int, ...]]:
    layer = f"encoder.layer.{n}"
    return {
        **{f"{layer}.attention.self.{name}.weight": (d, d) for name in ("query", "key", "value")},
        **{f"{layer}.attention.self.{name}.bias": (d,) for name in ("query", "key", "value")},
        f"{layer}.attention.output.dense.weight": (d, d),
        f"{layer}.attention.output.dense.bias": (d,),
        f"{layer}.attention.output.LayerNorm.weight": (d,),
        f"{layer}.attention.output.LayerNorm.bias": (d,),
        f"{layer}.intermediate.dense.weight": (f, d),
        f"{layer}.intermediate.dense.bias": (f,),
        f"{layer}.output.dense.weight": (d, f),
        f"{layer}.output.dense.bias": (d,),
        f"{layer}.output.LayerNorm.weight": (d,),
        f"{layer}.output.LayerNorm.bias": (d,),
    }


def state(prefix: str = "bert.", num_labels: int = 3) -> dict[str, np.ndarray]:
    """A BERT classifier as Hugging Face names and shapes it, written down independently."""
    shapes = {
        "embeddings.word_embeddings.weight": (tiny.VOCAB, 32),
        "embeddings.position_embeddings.weight": (40, 32),
        "embeddings.token_type_embeddings.weight": (2, 32),
        "embeddings.LayerNorm.weight": (32,),
        "embeddings.LayerNorm.bias": (32,),
        **layer_tensors(0),
        **layer_tensors(1),
        **layer_tensors(2),
        "pooler.dense.weight": (32, 32),
        "pooler.dense.bias": (32,),
    }
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if num_labels:
        shapes |= {"classifier.weight": (num_labels, 32), "classifier.bias": (num_labels,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def flax_tree(tensors, separator="."):
    """The same weights as Hugging Face's Flax models stored them."""
    flat = {}
    for name, array in tensors.items():
        *module, leaf = name.split(separator)
        if leaf == "weight" and module[-1] == "LayerNorm":
            leaf = "scale"
        elif leaf == "weight" and module[-1].endswith("embeddings"):
            leaf = "embedding"
        elif leaf == "weight":
            leaf, array = "kernel", array.T
        flat[(*module, leaf)] = array
    return flax.traverse_util.unflatten_dict(flat)


def write_safetensors(tensors, file):
    safetensors.numpy.save_file(tensors, file)


def write_msgpack(tensors, file):
    file.write_bytes(flax.serialization.msgpack_serialize(flax_tree(tensors)))


def write_torch(tensors, file):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, file)


WRITERS = {
    "model.safetensors": write_safetensors,
    "flax_model.msgpack": write_msgpack,
    "pytorch_model.bin": write_torch,
}


def write_shards(tensors, folder, name):
    """Two shards and their index."""
    stem, suffix = name.rsplit(".", 1)
    names = sorted(tensors)
    weight_map = {}
    for n, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-{n:05}-of-00002.{suffix}"
        WRITERS[name]({key: tensors[key] for key in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


@pytest.fixture
def folder(tmp_path):
    """A model folder that still lacks its weights."""
    config = tiny.hf_config("bert", "classification")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def load(folder, tensors, **kwargs):
    write_safetensors(tensors, folder / "model.safetensors")
    return latadj_jax.from_pretrained(folder, **kwargs)[1]


def assert_equal(params, other):
    assert jax.tree.structure(params) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, params, other)


def test_every_tensor_goes_to_its_own_place(folder):
    """Fails where two of one shape are swapped or a square kernel is not transposed."""
    tensors = state()
    params = load(folder, tensors)
    embeddings, layer = params["embeddings"], params["layer_2"]
    attention = "bert.encoder.layer.2.attention"
    places = {
        "bert.embeddings.word_embeddings.weight": embeddings["word"]["embedding"],
        "bert.embeddings.position_embeddings.weight": embeddings["position"]["embedding"],
        "bert.embeddings.token_type_embeddings.weight": embeddings["token_type"]["embedding"],
        "bert.embeddings.LayerNorm.weight": embeddings["norm"]["scale"],
        "bert.embeddings.LayerNorm.bias": embeddings["norm"]["bias"],
        f"{attention}.self.query.weight": layer["query"]["kernel"].T,
        f"{attention}.self.query.bias": layer["query"]["bias"],
        f"{attention}.self.key.weight": layer["key"]["kernel"].T,
        f"{attention}.self.value.weight": layer["value"]["kernel"].T,
        f"{attention}.output.dense.weight": layer["attention_out"]["kernel"].T,
        f"{attention}.output.LayerNorm.weight": layer["attention_norm"]["scale"],
        f"{attention}.output.LayerNorm.bias": layer["attention_norm"]["bias"],
        "bert.encoder.layer.2.intermediate.dense.weight": layer["ff_in"]["kernel"].T,
        "bert.encoder.layer.2.output.dense.weight": layer["ff_out"]["kernel"].T,
        "bert.encoder.layer.2.output.dense.bias": layer["ff_out"]["bias"],
        "bert.encoder.layer.2.output.LayerNorm.weight": layer["ff_norm"]["scale"],
        "bert.pooler.dense.weight": params["pooler"]["kernel"].T,
        "classifier.weight": params["classifier"]["kernel"].T,
        "classifier.bias": params["classifier"]["bias"],
    }
    for name, array in places.items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)
    assert len(jax.tree.leaves(params)) == len(tensors)


@pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_parameters(folder, name, sharded):
    tensors = state()
    if sharded:
        write_shards(tensors, folder, name)
    else:
        WRITERS[name](tensors, folder / name)
    read = latadj_jax.from_pretrained(folder)[1]
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    assert_equal(read, load(folder, tensors))


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_weights_load_with_and_without_the_prefix_of_a_task_model(folder, prefix):
    assert_equal(load(folder, state(prefix)), load(folder, state()))


def test_old_names_of_norm_weights_are_read(folder):
    old = {
        re.sub(r"LayerNorm\.bias$", "LayerNorm.beta",
               re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name)): array
        for name, array in state().items()
    }  # fmt: skip
    assert any(name.endswith("gamma") for name in old)
    assert_equal(load(folder, old), load(folder, state()))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", WRITERS)
def test_half_precision_tensors_are_read_exactly(folder, name, dtype):
    half = {key: array.astype(dtype) for key, array in state().items()}
    if name == "pytorch_model.bin":
        torch = pytest.importorskip("torch")
        kind = torch.float16 if dtype == np.float16 else torch.bfloat16
        torch.save({k: torch.tensor(v.astype(np.float32)).to(kind) for k, v in half.items()},
                   folder / name)  # fmt: skip
    else:
        WRITERS[name](half, folder / name)
    read = latadj_jax.from_pretrained(folder)[1]
    (folder / name).unlink()
    assert_equal(read, load(folder, {k: v.astype(np.float32) for k, v in half.items()}))


def test_parameters_have_the_dtype_asked_for(folder):
    params = load(folder, state(), dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", WRITERS)
def test_truncated_files_are_refused_by_name(folder, name, share):
    WRITERS[name](state(), folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match=f"{name} cannot be read"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_shard_is_named(folder, name):
    write_shards(state(), folder, name)
    stem, suffix = name.rsplit(".", 1)
    shard = f"{stem}-00002-of-00002.{suffix}"
    (folder / shard).unlink()
    with pytest.raises(WeightsError, match=f"lacks the shard {shard}"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}']
)
def test_a_broken_index_is_named(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json.*weight_map"):
        latadj_jax.from_pretrained(folder)


def test_a_folder_without_weights_says_what_was_looked_for(folder):
    with pytest.raises(WeightsError, match=r"no weights.*model\.safetensors.*flax_model\.msgpack"):
        latadj_jax.from_pretrained(folder)


def test_reading_a_torch_file_without_torch_says_how_to_go_on(folder, monkeypatch):
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"needs torch.*pip install torch.*safetensors"):
        latadj_jax.from_pretrained(folder)


def test_a_torch_file_of_parameters_is_read(folder):
    torch = pytest.importorskip("torch")
    tensors = state()
    parameters = {name: torch.nn.Parameter(torch.tensor(t)) for name, t in tensors.items()}
    torch.save(parameters, folder / "pytorch_model.bin")
    params = latadj_jax.from_pretrained(folder)[1]
    assert_equal(params, load(folder, tensors))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"state_dict": {}, "epoch": 3},
            "holds 'state_dict', which is no dense tensor but .* dict",
        ),
        ([1, 2], "holds a list; save"),
    ],
)
def test_a_torch_file_of_something_else_says_what_to_save(folder, saved, message):
    torch = pytest.importorskip("torch")
    torch.save(saved, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=rf"pytorch_model\.bin {message}"):
        latadj_jax.from_pretrained(folder)


def test_all_that_does_not_fit_is_listed_at_once(folder):
    tensors = state()
    del tensors["bert.encoder.layer.1.attention.self.query.weight"]
    tensors["bert.encoder.layer.0.output.dense.bias"] = np.zeros(31, np.float32)
    tensors["bert.encoder.layer.3.output.dense.bias"] = np.zeros(32, np.float32)
    with pytest.raises(WeightsError) as error:
        load(folder, tensors)
    message = str(error.value)
    assert "missing: encoder.layer.1.attention.self.query.weight;" in message
    assert "shape: encoder.layer.0.output.dense.bias [31] instead of [32];" in message
    assert "unexpected: encoder.layer.3.output.dense.bias." in message


def test_a_long_list_is_cut_and_counted(folder):
    """A whole missing layer has 16 tensors; one sentence should not name them all."""
    tensors = {name: array for name, array in state().items() if "layer.2" not in name}
    with pytest.raises(WeightsError, match=r"encoder\.layer\.2.* and 8 more"):
        load(folder, tensors)


def test_a_transposed_kernel_is_refused(folder):
    tensors = state()
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    with pytest.raises(WeightsError, match=r"\[48, 32\] instead of|\[32, 48\] instead of"):
        load(folder, tensors)


def test_heads_of_other_tasks_and_buffers_may_be_left_over(folder):
    extra = {
        "cls.predictions.bias": np.zeros(tiny.VOCAB, np.float32),
        "cls.seq_relationship.weight": np.zeros((2, 32), np.float32),
        "bert.embeddings.position_ids": np.arange(40)[None],
    }
    assert_equal(load(folder, {**state(), **extra}), load(folder, state()))


def new_head(folder, seed=0):
    tensors = {k: v for k, v in state(num_labels=0).items() if "pooler" not in k}
    params = load(folder, tensors, seed=seed)
    return params["classifier"], params["pooler"]


def test_a_missing_head_is_drawn_anew_by_its_seed(folder):
    (head, pooler), (again, _), (other, _) = (new_head(folder, seed) for seed in (0, 0, 1))
    assert_equal(head, again)
    assert not np.array_equal(head["kernel"], other["kernel"])
    assert 0.01 < np.std(pooler["kernel"]) < 0.03  # initializer_range is 0.02
    assert not np.array_equal(pooler["kernel"][:, :3], head["kernel"])
    assert not np.any(head["bias"])


def test_a_missing_head_is_logged_and_a_present_one_is_not(folder, caplog):
    with caplog.at_level("INFO"):
        load(folder, state())
        assert "not in the checkpoint" not in caplog.text
        new_head(folder)
    for name in ("classifier.weight", "classifier.bias", "pooler.dense.weight"):
        assert name in caplog.text


@pytest.mark.parametrize("task", tiny.TASKS["bert"])
def test_saved_parameters_come_back_equal(task, tmp_path):
    model, params = tiny.make("bert", task)
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    assert_equal(latadj_jax.from_pretrained(tmp_path / "model")[1], params)


def test_saved_names_are_those_of_hugging_face(tmp_path):
    """Exactly: a name too many or too few makes transformers drop or draw a weight."""
    model, params = tiny.make("bert", "classification")
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    written = read_tensors(tmp_path / "model")
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in state().items()}


def test_half_precision_parameters_come_back_equal(tmp_path):
    model, params = tiny.make()
    params = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    assert_equal(latadj_jax.from_pretrained(tmp_path / "model", dtype="bfloat16")[1], params)


def test_the_tensors_of_a_file_share_one_descriptor(tmp_path):
    """A Mac grants a process 256 of them."""
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("this system does not show what is open")
    folder = tiny.save(tmp_path, "features")
    before = len(list(open_files.iterdir()))
    tensors = read_tensors(folder)
    assert len(tensors) > 20
    assert len(list(open_files.iterdir())) - before <= 1
