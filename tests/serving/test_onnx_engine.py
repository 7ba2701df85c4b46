"""An engine of exported graphs answers as the Engine of the same model does."""

import re

import numpy as np
import pytest
import tiny_engine
from paths import ROOT
from tolerance import SAME

import latadj_jax

pytest.importorskip("onnxruntime")


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


def test_what_was_not_exported_is_one_sentence(folder, tmp_path):
    with pytest.raises(ValueError, match=r"alphas has 0.3, which .* was not exported for"):
        latadj_jax.OnnxEngine(folder, alphas=(0.3,))
    with pytest.raises(ValueError, match=r"export.json is not there"):
        latadj_jax.OnnxEngine(tmp_path)


def test_the_python_of_the_page_runs(folder, monkeypatch, capsys):
    """Fails where docs/onnx.md names what is not there any more."""
    monkeypatch.chdir(folder.parent)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block.replace("128", "24").replace("speedup=2", "speedup=1.1"), {})
    assert capsys.readouterr().out == "(1, 3)\n"
