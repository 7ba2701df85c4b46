"""An engine of exported graphs answers as the Engine of the same model does."""

import ast
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny
import tiny_engine
import tiny_run
from paths import ROOT
from tolerance import SAME

import latadj_jax

pytest.importorskip("onnxruntime")
# Of many digits, none of which may be lost in export.json.
ALPHA = 2 / 3
QUERY, DOCUMENTS = "good word1", ["word2 bad word3", "good word4 word5", "bad", "word6 " * 9]


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    latadj_jax.export_onnx(folder, *parts, alphas=tiny_engine.ALPHAS, buckets=tiny_engine.BUCKETS)
    return folder


@pytest.fixture(scope="module")
def onnx_engine(folder):
    with latadj_jax.OnnxEngine(folder, batch_sizes=(4,), threads=1) as engine:
        yield engine.warmup(repeats=2)


def test_calls_give_what_the_engine_gives(engine, onnx_engine):
    """Fails where texts are encoded, batched, or matched with graphs in another way."""
    assert onnx_engine.alphas == engine.alphas
    assert onnx_engine.buckets == engine.buckets
    for asked in ({}, {"alpha": None}, {"speedup": 1.3}):
        np.testing.assert_allclose(
            onnx_engine(tiny_engine.TEXTS, **asked), engine(tiny_engine.TEXTS, **asked), **SAME
        )
    row = onnx_engine.submit("good word1", alpha=0.6).result()
    np.testing.assert_allclose(row, engine(["good word1"], alpha=0.6)[0], **SAME)
    assert onnx_engine.compilations == 6
    assert not onnx_engine._submissions._controller.fills


def ranked(engine, alpha):
    return [tuple(one) for one in engine.rank(QUERY, DOCUMENTS, alpha=alpha)]


def tagged(engine, alpha):
    found = engine.tag(["word1 Good word2 good", DOCUMENTS[3]], "none", alpha=alpha)
    assert sum(map(len, found)) > 3
    return [tuple(entity.values()) for entities in found for entity in entities]


def answered(engine, alpha):
    found = engine.answer(QUERY, " ".join(DOCUMENTS), top_k=3, alpha=alpha)
    return [tuple(one.values()) for one in found]


@pytest.mark.parametrize(
    ("task", "strategy", "ask"),
    [
        ("ranking", "score", ranked),
        ("token-classification", "score", tagged),
        ("question-answering", "merge", answered),
    ],
)
def test_what_each_task_is_asked_is_answered_alike(tmp_path, task, strategy, ask):
    """Fails where start and end are taken for each other, or tags are of other tokens."""
    model = tiny.make_model("bert", task, num_hidden_layers=2)
    model = model.replace(alpha=ALPHA, strategy=strategy)
    parts = model, tiny.random_params(model), tiny_run.tokenizer(tmp_path)
    latadj_jax.export_onnx(tmp_path / "exported", *parts, buckets=(24,))
    options = {"alphas": (None, ALPHA), "buckets": (24,), "batch_sizes": (4,)}
    found = {}
    for engine in (
        latadj_jax.Engine(*parts, **options),
        latadj_jax.OnnxEngine(tmp_path / "exported", **options),
    ):
        engine.warmup(repeats=1)
        found[type(engine)] = [*ask(engine, None), *ask(engine, ALPHA)]
    expected, own = found.values()
    assert len(own) == len(expected) > 3
    for one, other in zip(own, expected, strict=True):
        assert [x for x in one if isinstance(x, str)] == [x for x in other if isinstance(x, str)]
        numbers = [[x for x in row if not isinstance(x, str)] for row in (one, other)]
        np.testing.assert_allclose(*numbers, **SAME)


def test_what_was_not_exported_is_one_sentence(folder, tmp_path):
    sentence = r"alphas has 0.3, which .* was not exported for; it has dense, 0.9, 0.6\.$"
    with pytest.raises(ValueError, match=sentence):
        latadj_jax.OnnxEngine(folder, alphas=(0.3,))
    with pytest.raises(ValueError, match=r"buckets has 16, .*; it has 8, 24\.$"):
        latadj_jax.OnnxEngine(folder, buckets=(16,))
    with pytest.raises(
        ValueError, match=r"holds no export.json: write the folder by latadj export"
    ):
        latadj_jax.OnnxEngine(tmp_path)
    (tmp_path / "export.json").write_text(json.dumps({"format": 1, "programs": []}))
    with pytest.raises(ValueError, match=r"holds no ONNX graphs; export them with --format onnx"):
        latadj_jax.OnnxEngine(tmp_path)


def test_a_graph_that_onnxruntime_cannot_load_is_one_sentence(parts, tmp_path):
    latadj_jax.export_onnx(tmp_path / "exported", *parts, buckets=(8,))
    (tmp_path / "exported" / "weights.bin").unlink()
    engine = latadj_jax.OnnxEngine(tmp_path / "exported")
    with pytest.raises(ValueError, match=r"^onnxruntime 1\.\d+\S* cannot load .*dense.onnx, whose"):
        engine.warmup()


def test_onnxruntime_sends_and_keeps_nothing(tmp_path):
    """Its telemetry opens a database below HOME as it is imported; fails where it is not off."""
    program = (
        "from latadj_jax.onnx_graph.runtime import load_onnxruntime as load; load().SessionOptions"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    del environment["ORT_DISABLE_TELEMETRY"]  # of the tests
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not list((tmp_path / ".cache").rglob("*"))


def test_onnxruntime_is_imported_in_one_place():
    """Elsewhere it would be imported with its telemetry on."""
    importing = {
        str(file.relative_to(ROOT / "latadj_jax"))
        for file in (ROOT / "latadj_jax").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and "onnxruntime" in [one.name for one in node.names])
        or (isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "onnxruntime")
    }
    assert importing == {"onnx_graph/runtime.py", "onnx_graph/quantize.py"}  # which calls the first


def test_the_python_of_the_page_runs(folder, monkeypatch, capsys):
    """Fails where docs/onnx.md names what is not there any more."""
    monkeypatch.chdir(folder.parent)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("128", "24").replace("speedup=2", "speedup=1.1"), {})
    assert capsys.readouterr().out == "(1, 3)\n"
