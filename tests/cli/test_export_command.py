"""latadj export, called in this process: programs, graphs, a page."""

import json
import re
from pathlib import Path

import tiny
import tiny_run
import tiny_web
from refused import refused

import latadj_jax
from latadj_jax.cli.main import main


def test_export_writes_programs_of_a_model(folder, eval_door, capsys):
    source = tiny_run.source(folder)
    flags = ["--model", source, "--alpha", "0.8", "--buckets", "8", "--export", "out"]
    eval_door.main(flags)
    assert "| length8_dense.jax | 1.00 |\n| length8_alpha0.8.jax |" in capsys.readouterr().out
    assert (folder / "out" / "length8_alpha0.8.jax").stat().st_size > 1000
    again = refused(eval_door.main, flags)
    assert again == "eval.py: out is not empty; export into a new folder."
    causal = refused(eval_door.main, [*flags[:-1], "new", "--strategy", "recall"])
    assert "strategy 'recall' is for other models; bert has: score, " in causal
    assert not (folder / "new").exists()


def test_export_writes_graphs_of_a_model(folder, capsys):
    flags = ["--model", tiny_run.source(folder), "--alpha=0.8", "--buckets=8", "--format=onnx"]
    main(["export", "out", *flags])
    assert "| length8_dense.onnx | 1.00 |\n| length8_alpha0.8.onnx |" in capsys.readouterr().out
    assert {"weights.bin", "config.json", "export.json"} <= {f.name for f in Path("out").iterdir()}
    sentence = refused(main, ["export", "new", *flags[:-1], "--quantize=int8"])
    assert sentence == "latadj export: --quantize needs --format onnx or web."


def test_export_writes_a_page_of_a_model(folder, capsys):
    model, params = tiny.make("bert", "classification", num_hidden_layers=1)
    latadj_jax.save_pretrained(folder / "model", model, params, tiny_run.tokenizer(folder))
    libraries = tiny_web.node_modules(folder / "node_modules")
    flags = ["--model=model", "--alpha=0.8", "--buckets=8", f"--libraries={libraries}"]
    main(["export", "out", *flags, "--format=web"])
    assert "| length8_alpha0.8.onnx |" in capsys.readouterr().out
    assert json.loads(Path("out/page.json").read_text())["title"] == "model"
    sentence = refused(main, ["export", "new", *flags])
    assert sentence == "latadj export: --libraries needs --format web."


def test_a_speedup_of_an_export_is_that_at_its_largest_bucket(folder, capsys):
    main(["export", "out", "--model", tiny_run.source(folder), "--speedup=1.5", "--buckets=4,16"])
    rows = re.findall(r"\| length(\d+)_alpha(\S+).jax \| (\S+) \|", capsys.readouterr().out)
    speedups = {int(length): (alpha, float(speedup)) for length, alpha, speedup in rows}
    assert speedups.keys() == {4, 16}
    assert speedups[4][0] == speedups[16][0]
    assert 1.5 <= speedups[16][1] < 1.6


def test_a_speedup_that_the_model_s_own_alpha_gives_is_exported_once(folder, capsys):
    model, params = tiny.make("bert", "classification")
    own = model.solve_alpha(16, 1.5) * 0.99999  # as one that was rounded
    model = model.replace(alpha=own)
    latadj_jax.save_pretrained(folder / "model", model, params, tiny_run.tokenizer(folder))
    flags = ["--model=model", "--buckets=16", "--speedup=1.5,2"]
    main(["export", "out", *flags])
    alphas = [made["alpha"] for made in json.loads(Path("out/export.json").read_text())["programs"]]
    assert alphas == [None, own, model.solve_alpha(16, 2)]
