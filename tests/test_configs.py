import importlib.util
import pathlib

import pytest
from ml_collections import ConfigDict
from paths import ROOT

from latadj_jax.training import settings

CONFIGS = sorted((ROOT / "configs").glob("*.py"))

# The input lengths, tasks and headline metrics of the paper (arXiv 2201.03327).
PAPER = {
    "bert_cola": (64, "matthews"),
    "bert_sst2": (64, "accuracy"),
    "bert_mrpc": (128, "f1"),
    "bert_qqp": (128, "f1"),
    "bert_qnli": (128, "accuracy"),
    "bert_rte": (256, "accuracy"),
    "bert_mnli": (128, "accuracy"),
    "bert_stsb": (64, "pearson"),
    "bert_imdb": (512, "accuracy"),
}


def load(path: pathlib.Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def named(name: str) -> ConfigDict:
    return load(next(path for path in CONFIGS if path.stem == name))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_becomes_settings(path):
    config = load(path)
    if path.stem in ("text_csv", "t5_csv", "adapt", "embed_adapt"):
        with pytest.raises(settings.SettingsError, match=r"config\.data\.path"):
            settings.from_config(config)
        config.data.path = "reviews.csv"
    if path.stem == "adapt":
        with pytest.raises(settings.SettingsError, match=r"config\.model\.source names no model"):
            settings.from_config(config)
        config.model.source = "my_model"
    result = settings.from_config(config)
    assert result.workdir == f"runs/{path.stem}"  # two configs never write to one folder
    without = path.stem.startswith("llama") or path.stem == "embed_adapt"
    assert result.model.dropout in ((0.0,) if without else (0.1, 0.15))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_unknown_key_raises(path):
    config = load(path)
    with pytest.raises(AttributeError):
        config.data.max_lenght = 64
    with pytest.raises(AttributeError):
        config.optimiser = "adam"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_docstring_gives_its_own_command_and_the_paper(path):
    text = path.read_text()
    assert f"python train.py --config configs/{path.name}" in text
    assert "2201.03327" in text


@pytest.mark.parametrize("name", PAPER)
def test_task_configs_have_the_length_and_ranges_of_the_paper(name):
    result = settings.from_config(named(name))
    assert (result.data.max_length, result.eval.metrics[0]) == PAPER[name]
    assert 0.77 <= result.elimination.alpha <= 0.97
    assert 1e-5 <= result.train.learning_rate <= 5e-5
    assert 4 <= result.train.batch_size <= 128
    assert 2 <= result.train.epochs <= 5
    assert result.data.hub in ("nyu-mll/glue", "stanfordnlp/imdb")


def test_label_ids_are_those_of_glue():
    assert named("bert_qnli").data.labels == ("entailment", "not_entailment")
    assert named("bert_rte").data.labels == ("entailment", "not_entailment")
    assert named("bert_mnli").data.labels == ("entailment", "neutral", "contradiction")
    assert named("bert_sst2").data.labels == ("negative", "positive")
    assert named("bert_cola").data.labels == ("unacceptable", "acceptable")


def test_regression_has_no_labels_and_mnli_has_both_validations():
    assert named("bert_stsb").model.task == "regression"
    assert named("bert_stsb").data.labels == ()
    mnli = named("bert_mnli").data
    assert mnli.eval_splits == ("validation_matched", "validation_mismatched")
    assert mnli.eval_files == ("dev_matched.tsv", "dev_mismatched.tsv")
