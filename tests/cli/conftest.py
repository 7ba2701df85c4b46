"""Where commands are called, and the module that one door is."""

import importlib.util

import pytest
from paths import ROOT


@pytest.fixture(scope="module")
def eval_door():
    """The module eval.py."""
    spec = importlib.util.spec_from_file_location("eval_door", ROOT / "eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
