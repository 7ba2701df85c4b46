"""Weights of GPT-2 and Llama: every name and layout that Hugging Face gave them."""

import json

import flax
import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny
from tiny_weights import assert_equal

import latadj_jax
from latadj_jax.errors import WeightsError
from latadj_jax.pretrained.weights import read_tensors

D, F = 32, 48


def gpt2_state(prefix="transformer.", layers=2, head=None) -> dict[str, np.ndarray]:
    """GPT-2 as torch names and shapes it, written down independently; Conv1D is [in, out]."""
    shapes = {"wte.weight": (tiny.VOCAB, D), "wpe.weight": (40, D)}
    for n in range(layers):
        shapes |= {
            f"h.{n}.ln_1.weight": (D,),
            f"h.{n}.ln_1.bias": (D,),
            f"h.{n}.attn.c_attn.weight": (D, 3 * D),
            f"h.{n}.attn.c_attn.bias": (3 * D,),
            f"h.{n}.attn.c_proj.weight": (D, D),
            f"h.{n}.attn.c_proj.bias": (D,),
            f"h.{n}.ln_2.weight": (D,),
            f"h.{n}.ln_2.bias": (D,),
            f"h.{n}.mlp.c_fc.weight": (D, F),
            f"h.{n}.mlp.c_fc.bias": (F,),
            f"h.{n}.mlp.c_proj.weight": (F, D),
            f"h.{n}.mlp.c_proj.bias": (D,),
        }
    shapes |= {"ln_f.weight": (D,), "ln_f.bias": (D,)}
    return fill({prefix + name: shape for name, shape in shapes.items()} | (head or {}))


def llama_state(prefix="model.", layers=2, head=None) -> dict[str, np.ndarray]:
    """Llama as torch names and shapes it: 4 heads and 2 key-value heads of 12."""
    shapes = {"embed_tokens.weight": (tiny.VOCAB, D), "norm.weight": (D,)}
    for n in range(layers):
        shapes |= {
            f"layers.{n}.input_layernorm.weight": (D,),
            f"layers.{n}.self_attn.q_proj.weight": (48, D),
            f"layers.{n}.self_attn.k_proj.weight": (24, D),
            f"layers.{n}.self_attn.v_proj.weight": (24, D),
            f"layers.{n}.self_attn.o_proj.weight": (D, 48),
            f"layers.{n}.post_attention_layernorm.weight": (D,),
            f"layers.{n}.mlp.gate_proj.weight": (F, D),
            f"layers.{n}.mlp.up_proj.weight": (F, D),
            f"layers.{n}.mlp.down_proj.weight": (D, F),
        }
    return fill({prefix + name: shape for name, shape in shapes.items()} | (head or {}))


def fill(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


STATES = {"gpt2": gpt2_state, "llama": llama_state}
LM_HEAD = {"lm_head.weight": (tiny.VOCAB, D)}
SCORE = {"score.weight": (3, D)}
each_family = pytest.mark.parametrize("family", STATES)


def load(folder, family, tensors, task="features", **changes):
    config = tiny.hf_config(family, task, num_hidden_layers=2, **changes)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return latadj_jax.from_pretrained(folder)[1]


def test_every_tensor_of_gpt2_goes_to_its_own_place(tmp_path):
    """The fused query, key and value lie side by side; nothing but the heads is transposed."""
    tensors = gpt2_state(head=SCORE)
    params = load(tmp_path, "gpt2", tensors, "classification")
    layer, theirs = params["layer_1"], "transformer.h.1."
    weights, biases = (tensors[f"{theirs}attn.c_attn.{x}"] for x in ("weight", "bias"))
    for n, name in enumerate(("query", "key", "value")):
        np.testing.assert_array_equal(layer[name]["kernel"], weights[:, n * D : (n + 1) * D])
        np.testing.assert_array_equal(layer[name]["bias"], biases[n * D : (n + 1) * D])
    places = {
        "transformer.wte.weight": params["word"]["embedding"],
        "transformer.wpe.weight": params["position"]["embedding"],
        f"{theirs}ln_1.weight": layer["attention_norm"]["scale"],
        f"{theirs}ln_1.bias": layer["attention_norm"]["bias"],
        f"{theirs}attn.c_proj.weight": layer["attention_out"]["kernel"],
        f"{theirs}attn.c_proj.bias": layer["attention_out"]["bias"],
        f"{theirs}ln_2.weight": layer["ff_norm"]["scale"],
        f"{theirs}ln_2.bias": layer["ff_norm"]["bias"],
        f"{theirs}mlp.c_fc.weight": layer["ff_in"]["kernel"],
        f"{theirs}mlp.c_fc.bias": layer["ff_in"]["bias"],
        f"{theirs}mlp.c_proj.weight": layer["ff_out"]["kernel"],
        f"{theirs}mlp.c_proj.bias": layer["ff_out"]["bias"],
        "transformer.ln_f.weight": params["final_norm"]["scale"],
        "transformer.ln_f.bias": params["final_norm"]["bias"],
        "score.weight": params["classifier"]["kernel"].T,
    }
    for name, array in places.items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)
    assert len(jax.tree.leaves(params)) == len(tensors) + 2 * 2 * 2  # three of one, twice a layer


def test_every_tensor_of_llama_goes_to_its_own_place(tmp_path):
    tensors = llama_state(head=LM_HEAD)
    params = load(tmp_path, "llama", tensors, "lm")
    layer, theirs = params["layer_1"], "model.layers.1."
    places = {
        "model.embed_tokens.weight": params["word"]["embedding"],
        f"{theirs}input_layernorm.weight": layer["attention_norm"]["scale"],
        f"{theirs}self_attn.q_proj.weight": layer["query"]["kernel"].T,
        f"{theirs}self_attn.k_proj.weight": layer["key"]["kernel"].T,
        f"{theirs}self_attn.v_proj.weight": layer["value"]["kernel"].T,
        f"{theirs}self_attn.o_proj.weight": layer["attention_out"]["kernel"].T,
        f"{theirs}post_attention_layernorm.weight": layer["ff_norm"]["scale"],
        f"{theirs}mlp.gate_proj.weight": layer["gate"]["kernel"].T,
        f"{theirs}mlp.up_proj.weight": layer["up"]["kernel"].T,
        f"{theirs}mlp.down_proj.weight": layer["down"]["kernel"].T,
        "model.norm.weight": params["final_norm"]["scale"],
        "lm_head.weight": params["head"]["kernel"].T,
    }
    for name, array in places.items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)
    assert len(jax.tree.leaves(params)) == len(tensors)


def flax_tree(tensors):
    """The same weights as Hugging Face's Flax models stored them.

    All kernels are [in, out] but those of FlaxConv1D, which are [out, in]: each is the other way
    round than torch has it. FlaxLlamaRMSNorm kept the name "weight".
    """
    flat = {}
    for name, array in tensors.items():
        *module, leaf = name.split(".")
        if leaf == "weight" and module[-1] in ("wte", "wpe", "embed_tokens"):
            leaf = "embedding"
        elif leaf == "weight" and module[-1].startswith("ln_"):
            leaf = "scale"
        elif leaf == "weight" and "norm" not in module[-1]:
            leaf, array = "kernel", np.ascontiguousarray(array.T)
        flat[(*module, leaf)] = array
    return flax.traverse_util.unflatten_dict(flat)


@pytest.mark.parametrize("name", ["flax_model.msgpack", "pytorch_model.bin"])
@each_family
def test_every_format_of_a_causal_model_gives_the_same_parameters(tmp_path, family, name):
    head = LM_HEAD if family == "llama" else {}
    tensors = STATES[family](head=head)
    expected = load(tmp_path, family, tensors, "lm")
    (tmp_path / "model.safetensors").unlink()
    if name == "pytorch_model.bin":
        torch = pytest.importorskip("torch")
        torch.save({key: torch.from_numpy(a.copy()) for key, a in tensors.items()}, tmp_path / name)
    else:
        tree = flax_tree(tensors)
        if family == "gpt2":
            attention = tree["transformer"]["h"]["0"]["attn"]["c_attn"]
            assert attention["kernel"].shape == (3 * D, D)
        (tmp_path / name).write_bytes(flax.serialization.msgpack_serialize(tree))
    assert_equal(latadj_jax.from_pretrained(tmp_path)[1], expected)


@each_family
def test_a_base_model_loads_with_and_without_its_prefix(tmp_path, family):
    """The hub's gpt2 has none."""
    with_prefix = load(tmp_path, family, STATES[family]())
    assert_equal(load(tmp_path, family, STATES[family]("")), with_prefix)


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("gpt2", {"transformer.h.0.attn.bias": (1, 1, 40, 40)}),
        ("gpt2", {"transformer.h.1.attn.masked_bias": ()}),
        ("gpt2", LM_HEAD),
        ("gpt2", SCORE),
        ("gpt2", {"classifier.weight": (5, D), "classifier.bias": (5,)}),
        ("gpt2", {"qa_outputs.weight": (2, D), "qa_outputs.bias": (2,)}),
        ("gpt2", {"multiple_choice_head.summary.weight": (1, D)}),
        ("llama", {"model.layers.0.self_attn.rotary_emb.inv_freq": (6,)}),
        ("llama", {"model.rotary_emb.inv_freq": (6,)}),
        ("llama", LM_HEAD),
        ("llama", SCORE),
        ("llama", {"qa_outputs.weight": (2, D), "qa_outputs.bias": (2,)}),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_buffers_and_heads_of_other_tasks_may_be_left_over(tmp_path, family, extra):
    state = STATES[family]
    assert_equal(load(tmp_path, family, state(head=extra)), load(tmp_path, family, state()))


@each_family
def test_a_layer_too_many_or_too_few_is_refused(tmp_path, family):
    """Weights that a config does not know are lost work, not buffers."""
    with pytest.raises(WeightsError, match=r"unexpected: (h|layers)\.2\."):
        load(tmp_path, family, STATES[family](layers=3))
    with pytest.raises(WeightsError, match=r"missing: (h|layers)\.1\."):
        load(tmp_path, family, STATES[family](layers=1))


@each_family
def test_the_value_head_that_trl_trains_is_left_behind(tmp_path, family, caplog):
    tensors = STATES[family]()
    expected = load(tmp_path, family, tensors, "lm", tie_word_embeddings=True)
    head = {"v_head.summary.weight": np.zeros((1, D), "f"), "v_head.summary.bias": np.zeros(1, "f")}
    read = load(tmp_path, family, {**tensors, **head}, "lm", tie_word_embeddings=True)
    assert_equal(read, expected)
    assert "Left behind" in caplog.text
    assert "v_head.summary.bias, v_head.summary.weight" in caplog.text


@each_family
def test_a_tied_head_is_the_embedding_and_a_copy_of_it_is_left_out(tmp_path, family):
    tensors = STATES[family](head=LM_HEAD)
    embedding = next(
        name for name in tensors if name.endswith(("wte.weight", "embed_tokens.weight"))
    )
    tensors["lm_head.weight"] = tensors[embedding].copy()
    params = load(tmp_path, family, tensors, "lm", tie_word_embeddings=True)
    assert "head" not in params


@each_family
def test_a_tied_embedding_may_be_there_as_the_head_alone(tmp_path, family):
    """So safetensors.torch.save_model writes shared tensors."""
    tensors = STATES[family]()
    embedding = next(n for n in tensors if n.endswith(("wte.weight", "embed_tokens.weight")))
    expected = load(tmp_path, family, tensors, "lm", tie_word_embeddings=True)
    tensors["lm_head.weight"] = tensors.pop(embedding)
    assert_equal(load(tmp_path, family, tensors, "lm", tie_word_embeddings=True), expected)
    with pytest.raises(WeightsError, match=f"missing: {embedding.split('.', 1)[1]}"):
        load(tmp_path, family, tensors, "lm", tie_word_embeddings=False)


@each_family
def test_a_head_that_is_not_the_embedding_is_used_whatever_the_config_says(tmp_path, family):
    """transformers 5 does not tie them then; dropping the head would change every logit."""
    tensors = STATES[family](head=LM_HEAD)
    params = load(tmp_path, family, tensors, "lm", tie_word_embeddings=True)
    np.testing.assert_array_equal(params["head"]["kernel"].T, tensors["lm_head.weight"])
    assert not latadj_jax.from_pretrained(tmp_path)[0].config.tied


@each_family
def test_an_untied_head_is_its_own(tmp_path, family):
    tensors = STATES[family](head=LM_HEAD)
    params = load(tmp_path, family, tensors, "lm", tie_word_embeddings=False)
    np.testing.assert_array_equal(params["head"]["kernel"].T, tensors["lm_head.weight"])


@each_family
def test_a_classifier_on_a_language_model_is_drawn_anew_and_logged(tmp_path, family, caplog):
    load(tmp_path, family, STATES[family](head=LM_HEAD), "lm")
    assert "Drawn anew" not in caplog.text
    model, params = latadj_jax.from_pretrained(tmp_path, task="classification", num_labels=5)
    assert "score.weight" in caplog.text
    assert params["classifier"]["kernel"].shape == (D, 5)
    assert "bias" not in params["classifier"]
    assert 0.01 < np.std(params["classifier"]["kernel"]) < 0.03
    assert (model.task, len(model.config.labels)) == ("classification", 5)


def test_a_fused_tensor_of_another_shape_is_refused(tmp_path):
    tensors = gpt2_state()
    name = "transformer.h.0.attn.c_attn.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    with pytest.raises(WeightsError, match=r"h\.0\.attn\.c_attn"):
        load(tmp_path, "gpt2", tensors)
    tensors[name] = np.zeros((D, 3 * D + 1), np.float32)
    with pytest.raises(WeightsError, match=r"missing.*h\.0\.attn\.c_attn.*unexpected.*c_attn"):
        load(tmp_path, "gpt2", tensors)


@pytest.mark.parametrize(
    ("family", "task", "head", "changes"),
    [
        ("gpt2", "lm", {}, {}),
        ("gpt2", "lm", LM_HEAD, {"tie_word_embeddings": False}),
        ("gpt2", "classification", SCORE, {}),
        ("llama", "lm", LM_HEAD, {}),
        ("llama", "lm", {}, {"tie_word_embeddings": True}),
        ("llama", "classification", SCORE, {}),
    ],
)
def test_saved_tensors_are_those_that_were_read(tmp_path, family, task, head, changes):
    """Exactly, fused ones joined again: transformers drops or draws what has another name."""
    tensors = STATES[family](head=head)
    params = load(tmp_path, family, tensors, task, **changes)
    model, _ = latadj_jax.from_pretrained(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    written = read_tensors(tmp_path / "model")
    assert set(written) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)


@each_family
def test_a_base_model_is_saved_without_its_prefix(tmp_path, family):
    params = load(tmp_path, family, STATES[family]())
    model, _ = latadj_jax.from_pretrained(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    assert set(read_tensors(tmp_path / "model")) == set(STATES[family](""))


@each_family
def test_tasks_are_read_from_the_architectures(tmp_path, family):
    for task in ("features", "lm", "classification"):
        load(tmp_path, family, STATES[family](head=LM_HEAD | SCORE), task)
        assert latadj_jax.from_pretrained(tmp_path)[0].task == task
    with pytest.raises(ValueError, match=f"'seq2seq' is not one of {family}'s: features, .*lm"):
        latadj_jax.from_pretrained(tmp_path, task="seq2seq")
