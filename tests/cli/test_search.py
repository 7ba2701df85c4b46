"""The command that searches a profile, and training with what it found."""

import dataclasses

import numpy as np
import pytest
from test_adapt import FAST, adapted, model_folder, texts

from latadj_jax import Profile, expected_speedup
from latadj_jax.cli.main import main

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_a_profile_is_searched_and_trained_with(tmp_path, capsys, monkeypatch):
    def as_expected(model, params, data, plans, settings):
        return {alpha: 1 / expected_speedup(by_bucket[24]) for alpha, by_bucket in plans.items()}

    # So small a model is no faster with less to do.
    monkeypatch.setattr("latadj_jax.evaluation.evaluate._times_ms", as_expected)
    source, file = model_folder(tmp_path, "embedding"), tmp_path / "profile.json"
    main(["search", source, "--texts", texts(tmp_path), "--speedup", "1.1,1.2",
          "--profile", str(file), *FAST])  # fmt: skip
    printed = capsys.readouterr().out
    assert "| depth | order | min_tokens | fidelity, 1.1x | fidelity, 1.2x |" in printed
    rows = [row for row in printed.split("\n") if row.startswith(("| constant", "| falling"))]
    sums = [sum(map(float, row.split("|")[6:8])) for row in rows]
    assert len(sums) >= 7
    assert (np.diff(sums) <= 2e-4).all()  # of two numbers of four digits
    model = adapted(tmp_path, source, "--speedup", "1.2", f"--config.elimination.profile={file}")
    assert model.profile == Profile.load(file)


def test_a_share_of_the_speedup_comes_from_layers(tmp_path):
    source = model_folder(tmp_path, "embedding")
    model = adapted(tmp_path, source, "--speedup", "1.9", "--config.elimination.depth=1.0")
    assert model.profile == dataclasses.replace(Profile.constant(2).path(1.0), min_tokens=6)
    assert model.plan(model.alpha, 24).skipped == (2,)


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (3, "config.elimination.profile: the profile has 3 layers, the model 2"),
        (0, "cannot be read"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(layers, sentence, tmp_path):
    file = tmp_path / "profile.json"
    if layers:
        Profile.constant(layers).save(file)
    with pytest.raises(SystemExit) as ended:
        adapted(
            tmp_path, model_folder(tmp_path, "embedding"), f"--config.elimination.profile={file}"
        )
    assert sentence in str(ended.value)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--speedup", "0.5,2"), "--speedup takes numbers above 1; one is 0.5"),
        (("--speedup", "inf"), "--speedup takes numbers above 1"),
        (
            ("--config.elimination.depth=0.5",),
            "depth cannot be set: the search",
        ),
        (("--profile", "missing/p.json"), "'missing/p.json': there is no such folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(flags, sentence):
    with pytest.raises(SystemExit) as ended:
        main(["search", "no model", "--texts", "no texts", *flags])
    assert sentence in str(ended.value)


def test_a_model_of_another_task_is_refused_as_such(tmp_path):
    """And not for the strategy that the task would have."""
    source = model_folder(tmp_path, "classification")
    flags = ("--texts", texts(tmp_path), "--task", "token-classification")
    with pytest.raises(SystemExit, match="a model for classification, not for") as ended:
        main(["search", source, *flags, "--profile", str(tmp_path / "p.json")])
    assert "undecided" not in str(ended.value)
