"""The notebooks of examples/ run from first cell to last, with tiny models and few texts."""

import json

import matplotlib
import pytest
import tiny
import tiny_run
from paths import ROOT

import latadj_jax

matplotlib.use("Agg")
TRAINING = ["--config.mesh.data=1", "--config.data.max_length=24", "--config.data.buckets=(24,)",
            "--config.train.batch_size=8", "--config.train.max_steps=2",
            "--config.eval.timing_repeats=1"]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny.make_model("bert", "embedding", num_hidden_layers=2)
    words = tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained("embedder", model, tiny.random_params(model), words)
    tiny_run.source(tmp_path, 2)
    tiny_run.csv(tmp_path, 80)
    return tmp_path


def cells(name: str) -> list[dict]:
    notebook = json.loads((ROOT / f"examples/{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("classify", {
            "TRAINING": ["--config=text_csv", "--config.workdir=runs/notebook",
                         "--config.model.source=model", "--config.data.path=texts.csv", *TRAINING,
                         "--config.eval.alphas=(0.8,)"],
            "TEXTS": ["good word1", "bad word2 word3"], "BUCKET": 24}),
        ("search", {
            "MODEL": "embedder", "TEXTS": "texts.csv", "ADAPT": ["--columns=text", *TRAINING],
            "DOCUMENTS": 12, "QUERIES": ["good word1"], "BUCKET": 24}),
        ("serve", {
            "MODEL": "embedder", "SECONDS": 0.2, "LOADS": (0.01, 0.05), "BUCKET": 24,
            "TEXT": "good word1"}),
    ],
)  # fmt: skip
def test_a_notebook_runs(name, parameters, folder, capsys):
    names = {}
    for number, cell in enumerate(cells(name)):
        exec(compile("".join(cell["source"]), f"{name}.ipynb, cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert {*parameters} <= {*names}
            names |= parameters
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", ["classify", "search", "serve"])
def test_a_notebook_is_kept_without_output(name):
    """Times and scores of a machine that did other things do not get into the repository."""
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(name))
    assert any("parameters" in cell["metadata"].get("tags", ()) for cell in cells(name))
