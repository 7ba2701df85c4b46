"""The folder of a run: what a process that was killed leaves in it, and files written whole."""

import dataclasses
import os
from pathlib import Path

import pytest

from latadj_jax.atomic_file import write_whole
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import SettingsError
from latadj_jax.training.metrics_log import MetricsLog
from latadj_jax.training.run_folder import check_data, claimed_workdir, model_of
from latadj_jax.training.settings import Settings, from_config


@pytest.fixture
def settings(tmp_path):
    return Settings(str(tmp_path / "run"), data=DataSettings(path="a.csv"))


@pytest.fixture
def full_disk(monkeypatch):
    def write_text(self, text, *args):
        self.write_bytes(text[:3].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path, full_disk):
    (tmp_path / "a.json").write_bytes(b"before")
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a.json", "afterwards")
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "before"


def test_a_full_disk_spoils_neither_the_log_nor_the_note_on_the_data(tmp_path, full_disk):
    (tmp_path / "data.sha256").write_bytes(b"abc\n")
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n')
    with pytest.raises(OSError, match="No space"):
        check_data(tmp_path, "abc")
    with pytest.raises(OSError, match="No space"):
        MetricsLog(tmp_path, 1)
    assert (tmp_path / "data.sha256").read_text() == "abc\n"
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_a_killed_save_left_is_removed_and_is_no_model(settings):
    with claimed_workdir(settings) as workdir:
        left = workdir / "model/.saving-abc"
        left.mkdir(parents=True)
        (left / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(SettingsError, match="its run has not finished"):
        model_of(workdir)
    with claimed_workdir(settings):
        assert not left.exists()


def test_a_tilde_in_the_folder_is_the_home_that_shells_mean(settings, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = dataclasses.asdict(settings) | {"workdir": "~/runs/a"}
    assert from_config(config).workdir == "/home/me/runs/a"
