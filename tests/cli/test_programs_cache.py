"""Commands keep what they compile."""

import os
import subprocess
import sys

import pytest
import tiny_run
from paths import ROOT

from latadj_jax.cli import programs_cache
from latadj_jax.cli.programs_cache import FOLDER, keep_programs


@pytest.fixture
def without_jax(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax")


def test_it_is_in_the_user_s_cache_one_for_each_processor(tmp_path, without_jax, monkeypatch):
    found = set()
    for kind in ("zen", "amx"):
        environment = {"XDG_CACHE_HOME": str(tmp_path)}
        monkeypatch.setattr(programs_cache, "_processor", lambda kind=kind: kind)
        keep_programs(environment)
        found.add(environment[FOLDER])
        assert int(environment["JAX_COMPILATION_CACHE_MAX_SIZE"]) > 0
    assert found == {str(tmp_path / "latadj" / kind) for kind in ("zen", "amx")}
    assert all(os.path.isdir(folder) for folder in found)


def test_one_s_own_stays(tmp_path, without_jax):
    environment = {FOLDER: "mine", "XDG_CACHE_HOME": str(tmp_path)}
    keep_programs(environment)
    assert environment == {FOLDER: "mine", "XDG_CACHE_HOME": str(tmp_path)}


def test_without_a_place_nothing_is_kept(tmp_path, without_jax):
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    keep_programs(environment)
    assert FOLDER not in environment


def test_where_jax_runs_already_nothing_is_changed(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    keep_programs(environment)
    assert FOLDER not in environment


def test_a_command_finds_what_the_one_before_it_compiled(tmp_path):
    """Fails where jax does not take the settings, or compiles all the same."""
    source = tiny_run.source(tmp_path)
    program = """
import sys
from latadj_jax.cli.main import main
from latadj_jax.cli.programs_cache import SETTINGS
SETTINGS["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # tiny programs, too
main(sys.argv[1:])
"""
    environment = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "caches")}
    (tmp_path / "lines.txt").write_text("good word1\n")
    command = ["embed", source, "--task=embedding", "--input=lines.txt", "--output=v.npy"]

    def files() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", program, *command, "--buckets=8"], cwd=tmp_path,
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return {str(f) for f in (tmp_path / "caches").rglob("*-cache")}

    first = files()
    assert len(first) >= 3  # of 1, 8 and 32 texts
    assert files() == first
