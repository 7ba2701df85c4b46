"""Settings of a run that cannot work are refused in one sentence, before anything is written."""

from pathlib import Path

import pytest
import tiny_run

from latadj_jax.errors import SettingsError
from latadj_jax.training import train


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": {"data": -1, "fsdp": -1}}, "config.mesh .*-1 for one axis at most"),
        ({"mesh": {"fsdp": 0}}, "config.mesh .*at least 1"),
        ({"train": {"accumulate": 3}}, "accumulate .*a divisor of train.batch_size, 8"),
        ({"train": {"evaluate_every": 7, "checkpoint_every": 5}}, "evaluate_every .*a multiple"),
        ({"train": {"keep_best": True}}, "evaluate_every .*above 0 with train.keep_best"),
        ({"train": {"keep": 0}}, "config.train.keep"),
        ({"train": {"evaluate_every": 5, "checkpoint_every": 0}}, "config.train.checkpoint_every"),
        ({"train": {"generator": "dice"}}, "rbg"),
        ({"elimination": {"alphas": (0.9, 0.9)}}, "alphas .*all different"),
        ({"elimination": {"alphas": (0.9, -1.0)}}, "alphas .*greater than 0"),
        ({"elimination": {"sandwich": True}}, "alphas .*two or more with a sandwich"),
        ({"elimination": {"distill": 1.5}}, "distill .*a share"),
        ({"elimination": {"min_tokens": 0}}, "min_tokens .*at least 1"),
        (
            {"elimination": {"min_tokens": 6, "profile": "profile.json"}},
            "min_tokens .*1 with elimination.profile",
        ),
        ({"data": {"buckets": (8, "16")}}, r"data.buckets\[1\] must be of type int; it is '16'"),
        (
            {"data": {"eval_files": (True,)}},
            r"eval_files\[0\] must be of type str; it is True",
        ),
        (
            {"model": {"task": "lm"}, "elimination": {"fit": "falling"}},
            "fit .*quadratic.* for a model of task lm",
        ),
        ({"elimination": {"distill": 0.5, "dense": True}}, "distill .*0 with elimination.dense"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_settings_that_cannot_work_are_one_sentence(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message) as raised:
        tiny_run.settings(tmp_path, num_layers=1, **changes)
    assert "\n" not in str(raised.value)


def test_a_batch_that_the_mesh_cannot_share_is_one_sentence(tmp_path):
    settings = tiny_run.settings(tmp_path, num_layers=1, mesh={"data": 8},
                                 train={"batch_size": 12})  # fmt: skip
    with pytest.raises(SettingsError, match=r"batch_size is 12; it must be a multiple of .* 8 x 1"):
        train.train(settings)
    assert not Path(settings.workdir).exists()


def test_numbers_in_the_place_of_names_are_names(tmp_path):
    """On a command line --config.data.labels=0,1 is a pair of integers."""
    data = {"labels": (0, 1), "local_text_columns": (3,)}
    settings = tiny_run.settings(tmp_path, num_layers=1, data=data)
    assert (settings.data.labels, settings.data.local_text_columns) == (("0", "1"), ("3",))
