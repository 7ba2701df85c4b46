"""The command that searches a profile, and training with what it found."""

import pytest
from test_adapt import FAST, adapted, model_folder, texts

from latadj_jax import Profile
from latadj_jax.cli.main import main

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_a_profile_is_searched_and_trained_with(tmp_path, capsys):
    source, file = model_folder(tmp_path, "embedding"), tmp_path / "profile.json"
    main(["search", source, "--texts", texts(tmp_path), "--speedup", "1.1,1.2",
          "--profile", str(file), *FAST])  # fmt: skip
    printed = capsys.readouterr().out
    assert "| rates | strategy | depth | order | fidelity, 1.1x | fidelity, 1.2x |" in printed
    assert printed.count("| merge | ") >= 2
    assert printed.count("| last first |") >= 4
    model = adapted(tmp_path, source, "--speedup", "1.2", f"--config.elimination.profile={file}")
    assert model.profile == Profile.load(file)


def test_a_share_of_the_speedup_comes_from_layers(tmp_path):
    source = model_folder(tmp_path, "embedding")
    model = adapted(tmp_path, source, "--speedup", "1.9", "--config.elimination.depth=1.0")
    assert model.profile == Profile.constant(2).path(1.0)
    assert model.plan(model.alpha, 24).skipped == (2,)


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (3, "config.elimination.profile: the profile has 3 layers, the model 2"),
        (0, "cannot be read"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(layers, sentence, tmp_path, capsys):
    file = tmp_path / "profile.json"
    if layers:
        Profile.constant(layers).save(file)
    with pytest.raises(SystemExit) as ended:
        adapted(
            tmp_path, model_folder(tmp_path, "embedding"), f"--config.elimination.profile={file}"
        )
    assert sentence in str(ended.value)
