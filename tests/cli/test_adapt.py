"""The command that makes a finished model adjustable on texts alone."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import tiny
import tiny_run
import tiny_text

import latadj_jax
from latadj_jax import Profile
from latadj_jax.cli.main import main
from latadj_jax.families.pooling import Embedding

FAST = (
    "--config.train.max_steps=2", "--config.train.batch_size=8", "--config.data.max_length=24",
    "--config.data.buckets=(24,)", "--config.eval.timing_repeats=1", "--config.mesh.data=1",
    "--config.eval.batch_size=16",
)  # fmt: skip

SIX_STAY = dataclasses.replace(Profile.constant(2).path(0.5), min_tokens=6)

pytestmark = pytest.mark.usefixtures("standard_promotion")


def model_folder(folder, task, family="bert") -> str:
    words = tiny_run.tokenizer(folder) if family == "bert" else tiny_text.byte_level()
    options = {"num_hidden_layers": 2, "vocab_size": len(words)}
    model = tiny.make_model(family, task, **options).replace(profile=None)
    latadj_jax.save_pretrained(folder / task, model, tiny.random_params(model), words)
    return str(folder / task)


def texts(folder, columns=1, rows=40, words=10) -> str:
    rng = random.Random(0)
    lines = [
        "\t".join(" ".join(rng.sample(tiny_run.WORDS, words)) for _ in range(columns))
        for _ in range(rows)
    ]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    return str(folder / "texts.txt")


@pytest.mark.parametrize(
    ("task", "columns", "metric", "strategy", "profile"),
    [
        ("embedding", 1, "fidelity", "distinct", SIX_STAY),
        ("ranking", 2, "spearman", "merge", Profile.falling(2)),
        ("question-answering", 2, "f1", "undecided", Profile.falling(2, reads_all=True)),
    ],
)
def test_a_model_becomes_adjustable(task, columns, metric, strategy, profile, tmp_path, capsys):
    """It carries the alpha of the middle speedup, and a profile that fits what its head reads."""
    source, run = model_folder(tmp_path, task), tmp_path / "run"
    main(["adapt", source, "--texts", texts(tmp_path, columns), "--output", str(run),
          "--speedup", "1.1,1.2,1.3", *FAST])  # fmt: skip
    assert f"| alpha | {metric} |" in capsys.readouterr().out
    model, _ = latadj_jax.from_pretrained(run / "model")
    assert (model.task, model.strategy, model.profile) == (task, strategy, profile)
    settings = json.loads((run / "settings.json").read_text())
    alphas = settings["elimination"]["alphas"]
    assert alphas == sorted(alphas, reverse=True)
    assert model.alpha == alphas[1]
    assert model.solve_alpha([12 if columns == 1 else 23] * 9, 1.2) == pytest.approx(
        alphas[1], abs=1e-3
    )


def adapted(folder, source, *flags, **shape):
    run, read = folder / "run", texts(folder, **shape)
    main(["adapt", source, "--texts", read, "--output", str(run), *FAST, *flags])
    return latadj_jax.from_pretrained(run / "model")[0]


def test_one_speedup_is_enough_and_speedups_need_no_order(tmp_path):
    (tmp_path / "b").mkdir()
    source = model_folder(tmp_path, "embedding")
    one = adapted(tmp_path, source, "--speedup", "1.2")
    assert one.alpha == pytest.approx(one.solve_alpha([12] * 9, 1.2), abs=1e-3)
    three = adapted(tmp_path / "b", source, "--speedup", "1.3,1.1,1.2,1.2")
    assert three.alpha == one.alpha  # the middle one


def test_short_texts_go_without_the_speedups_that_are_out_of_reach(tmp_path, caplog):
    source = model_folder(tmp_path, "embedding")
    with caplog.at_level("WARNING"):
        tokens_only = "--config.elimination.depth=0.0", "--config.elimination.min_tokens=1"
        model = adapted(tmp_path, source, *tokens_only, words=1)
    assert "out of reach" in caplog.text
    assert model.alpha is not None


def test_a_profile_that_is_given_has_its_layers_already(tmp_path):
    """Fails where the default depth stands beside it, which the settings refuse."""
    profile = Profile.falling(2, reads_all=True)
    profile.save(tmp_path / "profile.json")
    flags = ("--speedup", "1.1", f"--config.elimination.profile={tmp_path}/profile.json")
    model = adapted(tmp_path, model_folder(tmp_path, "embedding"), *flags)
    assert model.profile == profile


def test_what_is_for_means_is_not_for_a_model_that_pools_cls(tmp_path):
    """Neither skipped layers nor tokens that always stay, which a given profile would not allow."""
    model = tiny.make_model("bert", "embedding", num_hidden_layers=2)
    pools_cls = model.config.replace(embedding=Embedding(modes=("cls",)))
    words = tiny_run.tokenizer(tmp_path)
    model = model.replace(config=pools_cls, profile=None)
    latadj_jax.save_pretrained(tmp_path / "m", model, tiny.random_params(model), words)
    found = adapted(tmp_path, str(tmp_path / "m"), "--speedup", "1.1")
    assert (found.strategy, found.profile) == ("merge", Profile.constant(2))


def test_a_causal_model_forgets_as_it_cannot_merge(tmp_path):
    model = adapted(tmp_path, model_folder(tmp_path, "classification", "gpt2"), "--speedup", "1.1")
    assert (model.family.name, model.strategy) == ("gpt2", "score")


def test_a_ranker_whose_files_do_not_say_so_is_adapted_by_name(tmp_path):
    source = Path(model_folder(tmp_path, "ranking"))
    config = json.loads((source / "config.json").read_text())
    del config["sentence_transformers"]
    (source / "config.json").write_text(json.dumps(config))
    (source / "elimination.json").unlink()
    flags = ("--task", "ranking", "--speedup", "1.1")
    assert adapted(tmp_path, str(source), *flags, columns=2).task == "ranking"


def test_a_plain_base_model_is_adapted_as_an_embedding_model(tmp_path):
    flags = ("--task", "embedding", "--speedup", "1.1")
    assert adapted(tmp_path, model_folder(tmp_path, "features"), *flags).task == "embedding"


def test_tags_are_adapted_too(tmp_path):
    model = tiny.make_model("bert", "token-classification", num_hidden_layers=1)
    model = model.replace(config=model.config.replace(labels=("O", "B-a", "I-a")), profile=None)
    params, words = tiny.random_params(model), tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "m", model, params, words)
    assert adapted(tmp_path, str(tmp_path / "m"), "--speedup", "1.05").task == model.task


@pytest.mark.parametrize(
    ("task", "flags", "message"),
    [
        ("features", (), "a model of task 'features' cannot be adapted without labels"),
        ("embedding", ("--speedup", "50"), "out of reach"),
        ("embedding", ("--columns", "a,b,c"), "text_columns must be one or two columns"),
        ("embedding", ("--texts", "nowhere.txt"), "--texts is 'nowhere.txt': there is no such"),
        ("ranking", (), "reads pairs of texts: in texts.txt each line needs two with a tab"),
        ("embedding", ("--config.elimination.calibration_examples=9",), "until training measures"),
        ("embedding", ("--config.train.epoch=3",), "config.train.epoch is not a setting"),
    ],
)
def test_bad_input_gets_one_sentence(task, flags, message, tmp_path):
    source = model_folder(tmp_path, task)
    with pytest.raises(SystemExit, match=f"^latadj adapt: .*{message}"):
        main(["adapt", source, "--texts", texts(tmp_path), "--output", str(tmp_path / "run"),
              *flags])  # fmt: skip
    assert not Path(tmp_path / "run").exists()
