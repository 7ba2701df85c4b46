"""Loading a folder: its head and labels, what comes beside it, and what is refused."""

import json

import numpy as np
import pytest
import tiny

import latadj_jax
from latadj_jax import Profile, from_pretrained

# from_pretrained: what task, how many labels

MULTI_LABEL = {"problem_type": "multi_label_classification"}


@pytest.mark.parametrize(
    ("saved", "changes", "asked", "task", "labels"),
    [
        ("features", {}, {}, "features", 2),
        ("features", {"architectures": None}, {}, "features", 2),
        ("features", {"architectures": ["BertForMaskedLM"]}, {"task": "features"}, "features", 2),
        ("features", {}, {"task": "classification"}, "classification", 2),
        ("features", {}, {"task": "classification", "num_labels": 4}, "classification", 4),
        ("features", {}, {"task": "regression"}, "regression", 1),
        ("classification", {}, {}, "classification", 3),
        ("classification", {"problem_type": None}, {}, "classification", 3),
        ("classification", {}, {"num_labels": 5}, "classification", 5),
        ("classification", {}, {"task": "regression"}, "regression", 1),
        ("classification", {}, {"task": "features"}, "features", 3),
        ("classification", MULTI_LABEL, {"task": "features"}, "features", 3),
        ("classification", MULTI_LABEL, {"task": "classification"}, "classification", 3),
        ("regression", {}, {}, "regression", 1),
        ("regression", {"problem_type": None}, {}, "regression", 1),
        ("regression", {}, {"task": "regression"}, "regression", 1),
        ("regression", {}, {"task": "classification", "num_labels": 2}, "classification", 2),
    ],
)
def test_task_and_labels_come_from_the_config_unless_asked_for(
    tmp_path, saved, changes, asked, task, labels
):
    model, params = from_pretrained(tiny.save(tmp_path / "m", saved, **changes), **asked)
    assert model.task == task
    assert len(model.config.labels) == labels
    assert ("classifier" in params) == (task != "features")
    if task != "features":
        assert params["classifier"]["kernel"].shape == (32, labels)


@pytest.mark.parametrize(
    ("saved", "asked", "kept"),
    [
        ("classification", {}, True),
        ("classification", {"num_labels": 3}, True),
        ("classification", {"num_labels": 4}, False),
        ("classification", {"task": "regression"}, False),
        ("regression", {"task": "regression"}, True),
    ],
)
def test_the_head_is_kept_where_it_fits(tmp_path, saved, asked, kept):
    """Fails where fine-tuning goes on from a random head, or a head of another task stays."""
    params = from_pretrained(tiny.save(tmp_path / "m", saved), **asked)[1]
    kernel = tiny.make("bert", saved)[1]["classifier"]["kernel"]
    assert np.array_equal(params["classifier"]["kernel"], kernel) == kept


def test_label_names_survive_until_another_number_is_asked_for(tmp_path):
    folder = tiny.save(tmp_path / "m", "classification")
    assert from_pretrained(folder)[0].config.labels == ("name-0", "name-1", "name-2")
    assert from_pretrained(folder, num_labels=2)[0].config.labels == ("LABEL_0", "LABEL_1")


def test_a_folder_without_elimination_json_is_uncalibrated(tmp_path):
    folder = tiny.save(tmp_path / "m", "features")
    (folder / "elimination.json").unlink()
    model, _ = from_pretrained(folder)
    assert model.profile == Profile.constant(3)
    assert model.alpha is None


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", None, r"config\.json is not there"),
        ("config.json", '{"model_type": "be', r"config\.json cannot be read"),
        ("config.json", "[]", r"config\.json must hold a JSON object"),
        ("config.json", '{"model_type": "gpt5"}', "model_type 'gpt5'"),
        ("config.json", '{"model_type": "bert"}', "vocab_size"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", "half a file", r"model\.safetensors cannot be read"),
        ("elimination.json", "{", r"elimination\.json cannot be read"),
        ("elimination.json", "{}", r"elimination\.json cannot be used: it has no 'format'"),
        (
            "elimination.json",
            '{"format": 1, "alpha": 1' + "0" * 400 + ', "profile": {"rates": [1, 1, 1]}}',
            r"elimination\.json.*alpha must be finite",
        ),
        ("config.json", '{"model_type": [1]}', r"model_type \[1\] is not implemented"),
        ("config.json", "[" * 100_000, r"config\.json cannot be read"),
        ("elimination.json", '{"format": 2}', r"elimination\.json.*format is 2"),
        ("elimination.json", '{"format": 1, "alpha": 0.5}', r"elimination\.json.*profile"),
        (
            "elimination.json",
            '{"format": 1, "alpha": 0.5, "profile": {"rates": [0.5, 0.5, 1.5]}}',
            r"elimination\.json.*rates",
        ),
        (
            "elimination.json",
            '{"format": 1, "alpha": -1, "profile": {"rates": [1, 1, 1]}}',
            "alpha",
        ),
        ("elimination.json", '{"format": 1, "alpha": 1, "profile": {"rates": [1]}}', "1 layers"),
    ],
)
def test_broken_artefacts_are_refused_by_file(tmp_path, file, text, message):
    folder = tiny.save(tmp_path / "m", "features")
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "lm"}, "task 'lm'"),
        ({"num_labels": 0}, "num_labels.*at least 1"),
        ({"dtype": "int8"}, "dtype.*int8"),
        ({"task": "features", "num_labels": 3}, "num_labels is for classification"),
        ({"num_labels": "3"}, "num_labels must be.*it is '3'"),
        ({"num_labels": True}, "num_labels must be.*it is True"),
        ({"task": ["lm"]}, r"task must be a name.*\['lm'\]"),
        ({"seed": -1}, "seed must be an integer of at least 0; it is -1"),
    ],
)
def test_what_no_model_can_be_is_refused(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        from_pretrained(tiny.save(tmp_path / "m", "classification"), **asked)


def test_what_is_no_source_and_no_model_is_said():
    model, params = tiny.make()
    batch = {"input_ids": np.ones((2, 8), np.int32)}
    with pytest.raises(ValueError, match="source must be a path or a hub id; it is None"):
        from_pretrained(None)
    for call in (
        lambda: latadj_jax.apply("folder", params, batch),
        lambda: latadj_jax.apply(None, params, batch),
        lambda: latadj_jax.calibrate(params, model, [batch]),
        lambda: latadj_jax.save_pretrained("m", params, model),
        lambda: latadj_jax.generate(params, model, batch),
    ):
        with pytest.raises(ValueError, match="model must be a Model, the first that"):
            call()
    with pytest.raises(ValueError, match="batches must be a list of batches; it is None"):
        latadj_jax.calibrate(model, params, None)


def test_a_problem_type_that_is_not_known_is_refused_where_no_task_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'ordinal' is not implemented; name another task"):
        from_pretrained(tiny.save(tmp_path / "m", "classification", problem_type="ordinal"))


def test_special_tokens_come_from_generation_config_first_as_in_hugging_face(tmp_path):
    """Chat models name their end of turn there alone; what is saved has it in config.json."""
    folder = tiny.save(tmp_path / "m", "features")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "eos_token_id": 2, "pad_token_id": 3})
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 17], "top_k": 5}')
    model, params = from_pretrained(folder)
    assert (model.config.eos_tokens, model.config.pad_tokens) == ((2, 17), (3,))
    latadj_jax.save_pretrained(tmp_path / "again", model, params)
    saved = json.loads((tmp_path / "again/config.json").read_text())
    assert (saved["eos_token_id"], saved["pad_token_id"]) == ([2, 17], 3)
    assert from_pretrained(tmp_path / "again")[0] == model
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json cannot be read"):
        from_pretrained(folder)


def test_a_file_of_a_model_is_no_model(tmp_path):
    file = tiny.save(tmp_path / "m", "features") / "model.safetensors"
    with pytest.raises(
        ValueError, match=r"config\.json is not there; is .*safetensors a model fol"
    ):
        from_pretrained(file)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("bert", "BertForMultipleChoice"),
        ("bert", "BertForPreTraining"),
        ("roberta", "RobertaForMultipleChoice"),
        ("modernbert", "ModernBertForMultipleChoice"),
        ("gpt2", "GPT2DoubleHeadsModel"),
        ("llama", "LlamaForTokenClassification"),
        ("t5", "T5ForSequenceClassification"),
    ],
)
def test_a_head_that_is_not_implemented_is_refused_by_name(family, architecture, tmp_path):
    """Read as features, its head would be thrown away in silence; asked for by name it is."""
    latadj_jax.save_pretrained(tmp_path, *tiny.make(family, num_hidden_layers=1))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": [architecture]}))
    with pytest.raises(ValueError, match=rf"head of {architecture} is not .*task='features'\.$"):
        latadj_jax.from_pretrained(tmp_path)
    model, _ = latadj_jax.from_pretrained(tmp_path, task="features")
    assert model.task == "features"
