"""Exported programs: what `apply` gives, at any batch size, without this library."""

import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
import tiny_run
from safetensors.flax import load_file
from tolerance import SAME

import latadj_jax
from latadj_jax.serving import export

# What README.md shows, where neither this library nor flax can be imported.
ALONE = """
import json, sys
sys.modules |= dict.fromkeys(["latadj_jax", "flax"])
import jax, jax.export, numpy as np
from safetensors.flax import load_file

folder, file, batch, out = sys.argv[1:]
params = load_file(f"{folder}/params.safetensors")
with open(f"{folder}/{file}", "rb") as program:
    program = jax.export.deserialize(bytearray(program.read()))
np.savez(out, **program.call(params, dict(np.load(batch))))
"""


def batch_of(about, length, size=3):
    """`size` examples of 2 to `length` tokens, padded on the right."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 40, (size, length)).astype(np.int32)
    valid = np.arange(length) < rng.integers(2, length + 1, (size, 1))
    others = {name: np.zeros_like(ids) for name in about["inputs"]}
    return {**others, "input_ids": ids, "attention_mask": valid}


@pytest.mark.parametrize(
    ("family", "task", "strategy"),
    [
        ("bert", "classification", "score"),
        ("bert", "features", "merge"),
        ("bert", "embedding", "merge"),
        ("llama", "regression", "score"),
        ("gpt2", "classification", "recall"),
        ("t5", "features", "score"),
        ("bert", "question-answering", "merge"),
        ("bert", "token-classification", "merge"),
    ],
)
def test_programs_give_what_apply_gives(tmp_path, family, task, strategy):
    model = tiny.make_model(family, task, num_hidden_layers=1)
    model = model.replace(alpha=0.9, strategy=strategy)
    if task == "question-answering":  # a program reads which tokens stay
        model = model.replace(protected=3)
    params = tiny.random_params(model)
    tokenizer = tiny_run.tokenizer(tmp_path)
    folder = tmp_path / "export"
    about = latadj_jax.export_programs(
        folder, model, params, tokenizer, alphas=(0.6,), buckets=(8,)
    )
    assert json.loads((folder / "export.json").read_text()) == json.loads(json.dumps(about))
    assert ("protected" in about["inputs"]) == (task == "question-answering")
    made = {(program["length"], program["alpha"]): program for program in about["programs"]}
    assert set(made) == {(8, alpha) for alpha in (None, 0.9, 0.6)}
    flat = load_file(folder / "params.safetensors")
    for (length, alpha), entry in made.items():
        assert entry["expected_speedup"] == latadj_jax.expected_speedup(model.plan(alpha, length))
        program = jax.export.deserialize(bytearray((folder / entry["file"]).read_bytes()))
        assert set(program.platforms) == {"cpu", "cuda", "tpu"}
        for size in (1, 3):
            batch = batch_of(about, length, size)
            out = program.call(flat, batch)
            expected = latadj_jax.apply(model, params, batch, alpha)
            for name, value in out.items():
                np.testing.assert_allclose(value, getattr(expected, name), **SAME)
            if task == "features":
                np.testing.assert_array_equal(out["positions"], expected.positions)
            else:
                assert set(out) == {"embedding" if task == "embedding" else "logits"}


def test_programs_run_without_this_library(tmp_path):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1).replace(dtype="bfloat16")
    params = jax.tree.map(lambda x: x.astype("bfloat16"), tiny.random_params(model))
    folder = tmp_path / "export"
    about = latadj_jax.export_programs(
        folder, model, params, tiny_run.tokenizer(tmp_path), alphas=(0.8,), buckets=(8,)
    )
    batch = batch_of(about, 8)
    np.savez(tmp_path / "batch.npz", **batch)
    pruned = about["programs"][-1]["file"]
    command = [folder, pruned, tmp_path / "batch.npz", tmp_path / "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, command)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = latadj_jax.apply(model, params, batch, 0.8)
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["logits"], expected.logits, atol=1e-2)


def test_programs_of_alphas_that_are_nearly_equal_have_names_of_their_own(tmp_path, monkeypatch):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    program = SimpleNamespace(serialize=lambda: b"")
    monkeypatch.setattr(export, "_program", lambda *_: program)
    latadj_jax.export_programs(
        tmp_path / "export", model, tiny.random_params(model), tiny_run.tokenizer(tmp_path),
        alphas=(np.float64(0.9), 1.0, 0.870551, 0.8705505632), buckets=np.array([8]),
    )  # fmt: skip
    names = {file.stem.removeprefix("length8_") for file in (tmp_path / "export").glob("*.jax")}
    assert names == {"dense", "alpha0.9", "alpha1", "alpha0.870551", "alpha0.8705505632"}


@pytest.mark.parametrize("made", [False, True])
def test_an_export_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, made):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    folder = tmp_path / "export"
    if made:
        folder.mkdir()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(export, "_program", full)
    with pytest.raises(OSError, match="disk full"):
        latadj_jax.export_programs(
            folder, model, tiny.random_params(model), tiny_run.tokenizer(tmp_path), buckets=(8,)
        )
    assert folder.exists() == made
    assert not (made and list(folder.iterdir()))


def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(tmp_path)
    folder = tmp_path / "export"

    def refused(sentence, model=model, params=params, **options):
        with pytest.raises(ValueError, match=sentence):
            latadj_jax.export_programs(folder, model, params, tokenizer, **options)

    refused("alpha must be finite", alphas=(0,))
    refused("the bucket 41 is longer than the model's 40 positions", buckets=(41, 8))
    refused(r"buckets must be a list of integers of at least 1; it is \(0,\)", buckets=(0,))
    refused("needs a key at each call", model=model.replace(strategy="random"))
    refused("params are not this model's", params={})
    refused("this one is for 'lm'", model=tiny.make_model("gpt2", "lm"))
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine").write_text("kept")
    refused("is not empty; export into a new folder")
    assert [file.name for file in folder.iterdir()] == ["mine"]
