"""The command that makes a finished model adjustable on texts alone."""

import json
import random
from pathlib import Path

import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main

FAST = (
    "--config.train.max_steps=2", "--config.train.batch_size=8", "--config.data.max_length=24",
    "--config.data.buckets=(24,)", "--config.eval.timing_repeats=1", "--config.mesh.data=1",
    "--config.eval.batch_size=16",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("standard_promotion")


def model_folder(folder, task) -> str:
    model = tiny.make_model("bert", task, num_hidden_layers=2).replace(profile=None)
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(folder / task, model, params, tiny_run.tokenizer(folder))
    return str(folder / task)


def texts(folder, columns=1, rows=40) -> str:
    rng = random.Random(0)
    lines = [
        "\t".join(" ".join(rng.sample(tiny_run.WORDS, 10)) for _ in range(columns))
        for _ in range(rows)
    ]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    return str(folder / "texts.txt")


@pytest.mark.parametrize(
    ("task", "columns", "metric", "merges_to"),
    [("embedding", 1, "fidelity", (1.0, 1.0)), ("ranking", 2, "spearman", (1.0, 1e-6))],
)
def test_a_model_becomes_adjustable(task, columns, metric, merges_to, tmp_path, capsys):
    """It carries the alpha of the middle speedup, and a profile that fits what its head reads."""
    source, run = model_folder(tmp_path, task), tmp_path / "run"
    main(["adapt", source, "--texts", texts(tmp_path, columns), "--output", str(run),
          "--speedup", "1.1,1.2,1.3", *FAST])  # fmt: skip
    assert f"| alpha | {metric} |" in capsys.readouterr().out
    model, _ = latadj_jax.from_pretrained(run / "model")
    assert (model.task, model.strategy, model.profile.rates) == (task, "merge", merges_to)
    settings = json.loads((run / "settings.json").read_text())
    alphas = settings["elimination"]["alphas"]
    assert alphas == sorted(alphas, reverse=True)
    assert model.alpha == alphas[1]
    assert model.solve_alpha([12 if columns == 1 else 23] * 9, 1.2) == pytest.approx(
        alphas[1], abs=1e-3
    )


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("features", (), "a model of task 'features' cannot be made adjustable on texts"),
        ("embedding", ("--speedup", "50"), "out of reach"),
        ("embedding", ("--columns", "a,b,c"), "0 to 2"),
        ("embedding", ("--config.train.epoch=3",), "config.train.epoch is not a setting"),
    ],
)
def test_bad_input_gets_one_sentence(task, flags, message, tmp_path):
    source = model_folder(tmp_path, task)
    with pytest.raises(SystemExit, match=f"^latadj adapt: .*{message}"):
        main(["adapt", source, "--texts", texts(tmp_path), "--output", str(tmp_path / "run"),
              *flags])  # fmt: skip
    assert not Path(tmp_path / "run").exists()
