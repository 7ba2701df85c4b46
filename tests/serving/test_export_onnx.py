"""Exported graphs give what `apply` gives, at any batch size, from one file of weights.

Fails where a lowering is wrong, a weight is read from the wrong place in the shared file, or a
graph is bound to the batch size that it was traced with.
"""

import json

import jax
import numpy as np
import onnx
import pytest
import tiny
import tiny_run
from tolerance import SAME

import latadj_jax
from latadj_jax.families.registry import FAMILIES as RECORDS
from latadj_jax.serving import export_onnx as module
from latadj_jax.tasks.registry import TASKS

onnxruntime = pytest.importorskip("onnxruntime")
LENGTH = 12

WHOLE = [
    ("bert", "classification", "score"),
    ("bert", "features", "merge"),
    ("bert", "token-classification", "merge"),
    ("bert", "question-answering", "undecided"),
    ("electra", "regression", "distinct"),
    ("t5", "features", "score"),
    ("modernbert", "embedding", "merge"),
    ("deberta-v2", "token-classification", "merge"),
    ("modernbert", "token-classification", "undecided"),
]


def batch_of(names, rng):
    """Rows that are full, padded on the right, on the left, and on both sides."""
    ids = rng.integers(5, 40, (4, LENGTH))
    mask = np.ones((4, LENGTH), np.int64)
    mask[1, 7:] = mask[2, :5] = mask[3, :2] = mask[3, 9:] = 0
    others = {name: np.zeros_like(ids) for name in names}
    return {**others, "input_ids": ids, "attention_mask": mask}


def run(folder, file, batch):
    session = onnxruntime.InferenceSession(folder / file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, batch), strict=True))


def export(tmp_path, family, task, strategy="score", **options):
    model = tiny.make_model(family, task, num_hidden_layers=2).replace(strategy=strategy, alpha=0.7)
    if strategy == "merge" and task == "token-classification":
        model = model.replace(removed_as="joined")
    params = tiny.random_params(model)
    tokenizer = tiny_run.tokenizer(tmp_path)
    folder = tmp_path / "export"
    about = latadj_jax.export_onnx(folder, model, params, tokenizer, buckets=(LENGTH,), **options)
    return model, params, folder, about


@pytest.mark.parametrize(("family", "task", "strategy"), WHOLE)
def test_graphs_give_what_apply_gives(tmp_path, family, task, strategy):
    model, params, folder, about = export(tmp_path, family, task, strategy)
    assert json.loads((folder / "export.json").read_text()) == json.loads(json.dumps(about))
    assert [graph["alpha"] for graph in about["graphs"]] == [None, 0.7]
    whole = batch_of(about["inputs"], np.random.default_rng(0))
    apply = jax.jit(latadj_jax.apply, static_argnames=("model", "alpha"))
    for graph in about["graphs"]:
        plan = model.plan(graph["alpha"], LENGTH)
        assert graph["expected_speedup"] == latadj_jax.expected_speedup(plan)
        onnx.checker.check_model(folder / graph["file"], full_check=True)
        expected = apply(model=model, params=params, batch=whole, alpha=graph["alpha"])
        by_name = {name: getattr(expected, field) for field, name in module.OUTPUTS.items()}
        if task == "question-answering":
            by_name = dict(zip(module.SPANS, np.moveaxis(expected.logits, -1, 0), strict=True))
        for rows in ([0, 1, 2, 3], [2], [3, 1]):
            out = run(folder, graph["file"], {key: x[rows] for key, x in whole.items()})
            assert list(out) == about["outputs"]
            for name, value in out.items():
                np.testing.assert_allclose(value, by_name[name][np.array(rows)], **SAME)


BASES = {"xlm-roberta": "roberta", "camembert": "roberta", "mt5": "t5", "umt5": "t5"}
HEADS = [
    (name, task)
    for name, family in RECORDS.items()
    for task in ("features", "embedding", "classification", "token-classification",
                 "question-answering")
    if not family.causal and TASKS[task].head in family.heads
]  # fmt: skip


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_every_family_is_exported_for_every_head(name, task, monkeypatch):
    """One layer of each, merging where the family does; other tasks have one of these heads."""
    family = tiny.FAMILIES[BASES.get(name, name)] | {"model_type": name}
    monkeypatch.setitem(tiny.FAMILIES, name, family)
    model = tiny.make_model(name, task, num_hidden_layers=1)
    model = model.replace(strategy="merge" if "merge" in model.family.strategies else "score")
    names = [key for key in ("input_ids", "token_type_ids") if key in model.input_ranges]
    params, plan = tiny.random_params(model), model.plan(0.7, LENGTH)
    graph = module.graph_of(model, params, names, plan)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    batch = batch_of(names, np.random.default_rng(0))
    out = latadj_jax.apply(model, params, batch, plan=plan)
    expected = {key: getattr(out, field) for field, key in module.OUTPUTS.items()}
    if task == "question-answering":
        expected = dict(zip(module.SPANS, np.moveaxis(out.logits, -1, 0), strict=True))
    for output, found in zip(session.get_outputs(), session.run(None, batch), strict=True):
        np.testing.assert_allclose(found, expected[output.name], **SAME)


def test_weights_are_there_once(tmp_path):
    """Fails where a graph keeps weights of its own, or the file holds some twice."""
    _, params, folder, about = export(tmp_path, "bert", "classification", alphas=(0.9, 0.5))
    large = sum(x.nbytes for x in jax.tree.leaves(params) if x.nbytes >= 1024)
    size = (folder / "weights.bin").stat().st_size
    assert large <= size < large + 4096 * (len(jax.tree.leaves(params)) + 4)
    assert len(about["graphs"]) == 4
    for graph in about["graphs"]:
        assert (folder / graph["file"]).stat().st_size < 100_000


def test_operators_are_those_that_runtimes_are_fast_at(tmp_path):
    """Fails where a named function is computed piece by piece, or a product is no MatMul."""
    _, _, folder, about = export(tmp_path, "bert", "classification")
    for graph in about["graphs"]:
        nodes = onnx.load(folder / graph["file"], load_external_data=False).graph.node
        ops = [node.op_type for node in nodes]
        assert not {"Einsum", "Erf", "Exp", "ReduceMean", "ScatterND"} & {*ops}
        assert ops.count("LayerNormalization") == 5
        assert ops.count("Softmax") == ops.count("Gelu") == 2
        # Those that remove: dense, the last layer of a classifier, which reads CLS alone.
        removing = 1 if graph["alpha"] is None else 2
        # Six weights a layer, two products of attention, pooler and head; scores.
        assert ops.count("MatMul") == 2 * (6 + 2) + 2 + removing
        assert removing <= ops.count("TopK") <= 2 * removing


def test_int8_is_of_weights_alone_and_close(tmp_path):
    """Fails where weights stay float32, or attention is quantized too."""
    model, params, folder, about = export(tmp_path, "bert", "embedding", "merge", quantize="int8")
    whole = batch_of(about["inputs"], np.random.default_rng(0))
    for graph in about["graphs"]:
        made = onnx.load(folder / graph["file"]).graph
        ops = [node.op_type for node in made.node]
        assert ops.count("MatMulInteger") == 12
        int8 = [w for w in made.initializer if w.data_type == onnx.TensorProto.INT8 and w.dims[1:]]
        assert len(int8) == 12
        assert ops.count("MatMul") >= 4
        found = run(folder, graph["file"], whole)["sentence_embedding"]
        expected = latadj_jax.apply(model, params, whole, graph["alpha"]).embedding
        if graph["alpha"] is None:  # else other word-vectors may stay
            assert (found * expected).sum(axis=1).min() > 0.98


def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path):
    model, params = tiny.make("bert", "classification", num_hidden_layers=1)
    tokenizer = tiny_run.tokenizer(tmp_path)

    def refused(sentence, model=model, params=params, **options):
        with pytest.raises(ValueError, match=sentence):
            latadj_jax.export_onnx(tmp_path / "out", model, params, tokenizer, **options)
        assert not (tmp_path / "out").exists()

    refused("computes in float32; the model's dtype is bfloat16", model.replace(dtype="bfloat16"))
    half = model.replace(dtype="bfloat16")
    refused("computes in float32; the model's dtype is bfloat16", half, quantize="int8")
    refused("quantize must be one of int8; it is 'int4'", quantize="int4")
    causal = tiny.make("gpt2", "classification", num_hidden_layers=1)
    refused("a gpt2 for 'classification' is not exported to ONNX yet: the primitive", *causal)
    refused("needs a key at each call", model.replace(strategy="random"))
