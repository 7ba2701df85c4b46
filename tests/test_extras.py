"""The core needs only what it uses, and what is missing is named with the extra that brings it."""

import ast
import os
import subprocess
import sys
import tomllib

import pytest
import tiny
import tiny_run
from paths import ROOT

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import MissingPackageError
from latadj_jax.evaluation import metrics, plots, tags
from latadj_jax.extras import require
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.train import train

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the extras bring, as it is imported. flax needs optax, orbax and absl itself.
OF_EXTRAS = (
    "datasets", "fastapi", "flatbuffers", "gguf", "httptools", "jinja2", "lm_eval", "matplotlib",
    "ml_collections", "onnx", "onnxruntime", "orjson", "prometheus_client", "sacrebleu", "seqeval",
    "sklearn", "tensorboardX", "torch", "uvicorn", "uvloop",
)  # fmt: skip


def test_require_names_what_is_missing_and_what_brings_it(monkeypatch):
    require("train", "json", "orbax.checkpoint")
    for name in ("sklearn", "sklearn.metrics"):  # the second may be imported already
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError) as missing:
        require("train", "json", "sklearn.metrics", "no_such_package")
    assert str(missing.value) == (
        "this needs sklearn.metrics and no_such_package, which are not installed: "
        "pip install 'latadj_jax[train]'"
    )
    assert isinstance(missing.value, ValueError)
    assert isinstance(missing.value, ImportError)


def test_every_extra_that_is_named_is_there():
    """Fails where a sentence tells a user to install an extra that pyproject.toml has not."""
    named = set()
    for file in (ROOT / "latadj_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                named.add(node.args[0].value)
    assert {"train", "plots", "data", "seq2seq", "tensorboard", "export", "serve", "onnx"} <= named
    assert named <= {*PROJECT["optional-dependencies"]}


def test_the_core_loads_applies_and_serves_without_any_extra(tmp_path):
    """Fails where something that is imported on that way needs what an extra brings."""
    model = tiny.make_model("bert", "classification", num_hidden_layers=2)
    source, tokenizer = str(tmp_path / "model"), tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained(source, model, tiny.random_params(model), tokenizer)
    (tmp_path / "lines.txt").write_text("good word1\nbad word2\n")
    program = f"""
import sys
sys.modules.update(dict.fromkeys({OF_EXTRAS}))  # None: cannot be imported
import latadj_jax
from latadj_jax.cli.main import main

model, params = latadj_jax.from_pretrained({source!r})
tokenizer = latadj_jax.load_tokenizer({source!r})
batch = dict(tokenizer(["good word1"], return_tensors="np"))
assert latadj_jax.apply(model, params, batch, alpha=0.8).logits.shape[0] == 1
main(["classify", {source!r}, "--buckets=8", "--input=lines.txt", "--speedup=1.5"])
main(["explain", "lines.txt", "--model", {source!r}, "--alpha=0.8"])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, page = done.stdout.split()[::2]
    assert {first, second} <= {*model.config.labels}
    assert page == "explain.html"


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("ml_collections", "train", lambda folder: main(["train", "--config", "quickstart"])),
        ("sklearn", "train", lambda folder: train(tiny_run.settings(folder))),
        ("matplotlib", "train", lambda folder: train(tiny_run.settings(folder))),
        ("sklearn", "train", lambda folder: evaluate_run(folder)),
        ("sklearn", "train", lambda folder: metrics.label_metrics(("accuracy",), [1], [1])),
        ("seqeval", "train", lambda folder: tags.tag_metrics(("f1",), [["O"]], [["O"]])),
        ("matplotlib", "plots", lambda folder: plots.plot_acc((), (), "", (), folder / "acc.png")),
        ("datasets", "data", lambda folder: load_examples(DataSettings(hub="a/b"), REGRESSION)),
        ("uvicorn", "serve", lambda folder: main(["serve", "none"])),
        ("flatbuffers", "export",
         lambda folder: latadj_jax.export_programs(folder / "out", *tiny.make(), None)),
        ("onnx", "onnx", lambda folder: latadj_jax.export_onnx(folder / "out", *tiny.make(), None)),
        ("onnxruntime", "onnx", lambda folder: latadj_jax.OnnxEngine(folder)),
    ],
)  # fmt: skip
def test_a_use_without_its_extra_is_one_sentence(tmp_path, monkeypatch, module, extra, use):
    """Before anything is loaded or written."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises((MissingPackageError, SystemExit)) as missing:
        use(tmp_path)
    assert str(missing.value).endswith(
        f"this needs {module}, which is not installed: pip install 'latadj_jax[{extra}]'"
    )
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "out").exists()
