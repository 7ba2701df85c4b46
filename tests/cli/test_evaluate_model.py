"""The command that evaluates a finished model on the data of a config."""

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.evaluation.metrics import spearman
from latadj_jax.families.pooling import Embedding, NormalizeStep

PAIRS = [(f"word{n} good", f"word{n * 7 % 40} bad word{n}", n % 5) for n in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    model = tiny.make_model("bert", "embedding", num_hidden_layers=2)
    spec = Embedding(steps=(NormalizeStep(),))
    model = model.replace(config=model.config.replace(embedding=spec), alpha=0.8, strategy="merge")
    params, words = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "m", model, params, words)
    lines = ["sentence1\tsentence2\tscore", *("\t".join(map(str, row)) for row in PAIRS)]
    for part in ("train", "dev"):
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def evaluate(folder, *flags):
    main(["evaluate", "--model", str(folder / "m"), f"--config.data.path={folder}",
          "--config.eval.timing_repeats=1", "--config.data.max_length=16", *flags])  # fmt: skip


def test_a_model_is_evaluated_without_a_run(folder, capsys):
    """Dense and at its own alpha, on the evaluation part alone."""
    evaluate(folder, "--config", "embed_stsb")
    printed = capsys.readouterr().out
    model, params = latadj_jax.from_pretrained(folder / "m")
    words = latadj_jax.load_tokenizer(str(folder / "m"))
    engine = latadj_jax.Engine(model, params, words, alphas=(None,), buckets=(16,))
    engine.warmup(repeats=1)
    for name, alpha in (("dense", None), ("0.8", 0.8)):
        a, b = (engine([row[n] for row in PAIRS], alpha=alpha) for n in (0, 1))
        expected = spearman(np.array([row[2] for row in PAIRS]), (a * b).sum(axis=1))
        assert f"| {name} | {expected:.4f} |" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--model and --config go together"),
        (("--config", "bert_stsb"), "is a model for embedding, and the data are for regression"),
        (("--config", "embed_stsb", "--config.data.pat=x"), "config.data.pat is not a setting"),
        (("--config", "embed_stsb", "--alpha", "0"), "alpha must be finite"),
    ],
)
def test_bad_input_gets_one_sentence(folder, flags, message):
    with pytest.raises(SystemExit, match=f"^latadj evaluate: .*{message}"):
        evaluate(folder, *flags)
