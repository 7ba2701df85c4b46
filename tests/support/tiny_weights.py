"""A tiny BERT's weights as Hugging Face names them, in every format that is read."""

import json

import flax
import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny

import latadj_jax


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


def without_weights(folder):
    """Makes `folder` one of a model that still lacks its weights."""
    config = tiny.hf_config("bert", "classification")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load(folder, tensors, **kwargs):
    write_safetensors(tensors, folder / "model.safetensors")
    return latadj_jax.from_pretrained(folder, **kwargs)[1]


def assert_equal(params, other):
    assert jax.tree.structure(params) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, params, other)
