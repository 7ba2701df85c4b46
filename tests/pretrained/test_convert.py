"""Tensors become parameters: each in its own place, and nothing is lost in silence."""

import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
import tiny
from tiny_weights import assert_equal, load, state, without_weights

import latadj_jax
from latadj_jax.errors import WeightsError
from latadj_jax.pretrained.weights import read_tensors


@pytest.fixture
def folder(tmp_path):
    return without_weights(tmp_path)


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


def test_parameters_have_the_dtype_asked_for(folder):
    params = load(folder, state(), dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(ml_dtypes.bfloat16)}


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


def test_what_a_known_head_leaves_over_is_reported(folder, caplog):
    extra = {
        "cls.predictions.bias": np.zeros(tiny.VOCAB, np.float32),
        "bert.embeddings.position_ids": np.arange(40)[None],
    }
    load(folder, {**state(), **extra})
    assert "Left behind, as this task does not read them: cls.predictions.bias" in caplog.text
    assert "position_ids" not in caplog.text  # computed, not read
    caplog.clear()
    latadj_jax.from_pretrained(folder, task="features")
    assert "classifier.bias, classifier.weight, cls.predictions.bias" in caplog.text


def test_a_tensor_that_nobody_knows_is_refused_with_the_way_to_let_it_pass(folder, caplog):
    extra = {"bert.encoder.layer.3.rm_head.weight": np.zeros((1, 32), np.float32)}
    with pytest.raises(
        WeightsError,
        match=r"unexpected: encoder\.layer\.3\.rm_head\.weight\. .*: strict=False, --no-strict",
    ):
        load(folder, {**state(), **extra})
    passed = load(folder, {**state(), **extra}, strict=False)
    assert "Left behind, as this task does not read them: encoder.layer.3.rm_head" in caplog.text
    assert_equal(passed, load(folder, state()))
    del extra["bert.encoder.layer.3.rm_head.weight"]
    lacking = {name: array for name, array in state().items() if "layer.1" not in name}
    with pytest.raises(WeightsError, match=r"missing: encoder\.layer\.1") as caught:
        load(folder, lacking, strict=False)  # it lets no weight be missing
    assert "strict" not in str(caught.value)


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


@pytest.mark.parametrize("strict", [True, False])
def test_quantized_weights_are_refused_whatever_is_left_behind(folder, strict):
    """Eight-bit integers are not the weights, and their scales would be left behind."""
    name = "bert.encoder.layer.0.attention.self.query"
    quantized = {f"{name}.weight": np.ones((32, 32), np.int8), f"{name}.SCB": np.ones(32, "f")}
    with pytest.raises(WeightsError, match=r"quantized: encoder\.layer\.0\.\S+ \(int8\)"):
        load(folder, {**state(), **quantized}, strict=strict)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quantization_config 'bitsandbytes' is not implemented"):
        load(folder, state(), strict=strict)


def test_one_tensor_under_two_names_is_refused(folder):
    twice = {"embeddings.LayerNorm.weight": np.ones(32, "f")}
    with pytest.raises(WeightsError, match=r"hold bert\.\S+Norm\.weight and embedd.* one tensor"):
        load(folder, {**state(), **twice})


@pytest.mark.parametrize(("rows", "num_labels"), [(3, 3), (7, 7), (3, 5)])
def test_a_head_with_as_many_rows_as_are_asked_for_is_kept(folder, rows, num_labels):
    """Also where config.json says another number, or none."""
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = state(num_labels=rows)
    params = load(folder, tensors, num_labels=num_labels)
    kept = np.array_equal(params["classifier"]["kernel"].T, tensors["classifier.weight"])
    assert kept == (rows == num_labels)
    assert len(latadj_jax.from_pretrained(folder, num_labels=num_labels)[0].config.labels) == (
        num_labels
    )
