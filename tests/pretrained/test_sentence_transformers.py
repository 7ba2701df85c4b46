"""Folders of sentence-transformers that cannot be used, and those that are something else."""

import json
import shutil

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.families.pooling import DenseStep, Embedding


@pytest.fixture
def folder(tmp_path):
    """An embedder with a Dense module."""
    embedding = Embedding(steps=(DenseStep(32, 16, True, "Tanh"),))
    model = tiny.make_model("bert", "embedding", num_hidden_layers=1)
    model = model.replace(config=model.config.replace(embedding=embedding))
    tokenizer = tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "m", model, tiny.random_params(model), tokenizer)
    return tmp_path / "m"


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_modules(folder, number, **changes):
    modules = json.loads((folder / "modules.json").read_text())
    modules[number] |= changes
    (folder / "modules.json").write_text(json.dumps(modules))


BAD = {
    "an unknown module": (
        lambda f: edit_modules(f, 2, type="sentence_transformers.models.LSTM"),
        r"modules\.json: the module LSTM is not implemented; implemented are Transformer, P",
    ),
    "two poolings": (
        lambda f: edit_modules(f, 2, type="sentence_transformers.models.Pooling"),
        r"modules\.json: Transformer, Pooling, Pooling: needed are a Transformer and a Pooling",
    ),
    "no path": (
        lambda f: (f / "modules.json").write_text('[{"type": "Pooling"}]'),
        r"modules\.json: each module needs a type and a path",
    ),
    "no list": (lambda f: (f / "modules.json").write_text("{}"), "must hold a JSON array"),
    "an unknown pooling": (
        lambda f: edit(f / "1_Pooling" / "config.json", pooling_mode="median"),
        r"pooling 'median' is not implemented; implemented are cls, max, mean",
    ),
    "another width": (
        lambda f: edit(f / "1_Pooling" / "config.json", word_embedding_dimension=64),
        "the pooling is for 64 numbers, the model has 32",
    ),
    "a Dense of another width": (
        lambda f: edit(f / "2_Dense" / "config.json", in_features=64),
        "a Dense step reads 64 numbers; 32 come from what is before it",
    ),
    "an unknown activation": (
        lambda f: edit(f / "2_Dense" / "config.json", activation_function="mine.Act"),
        "activation_function 'mine.Act' is not implemented; implemented are Identity, Tanh",
    ),
    "a residual": (
        lambda f: edit(f / "2_Dense" / "config.json", use_residual=True),
        "a Dense with a residual or of another input is not implemented",
    ),
    "no module folder": (
        lambda f: shutil.rmtree(f / "1_Pooling"),
        r"1_Pooling/config\.json is not",
    ),
    "an unknown similarity": (
        lambda f: edit(f / "config_sentence_transformers.json", similarity_fn_name="jaccard"),
        "similarity_fn_name 'jaccard' is none of cosine, dot, euclidean, manhattan",
    ),
    "no such default prompt": (
        lambda f: edit(f / "config_sentence_transformers.json", default_prompt_name="query"),
        "default_prompt_name 'query' is none of",
    ),
    "texts as messages": (
        lambda f: edit(f / "sentence_bert_config.json", modality_config={"message": {}}),
        "texts that a chat template writes out are not implemented",
    ),
    "a length that is none": (
        lambda f: edit(f / "sentence_bert_config.json", max_seq_length="long"),
        "max_seq_length must be a number of tokens; it is 'long'",
    ),
}


@pytest.mark.parametrize(("broken", "message"), BAD.values(), ids=BAD)
def test_folders_that_cannot_be_used_are_one_sentence(folder, broken, message):
    broken(folder)
    with pytest.raises(ValueError, match=message):
        latadj_jax.from_pretrained(folder)


def test_another_task_of_such_a_folder_leaves_its_modules_behind(folder, caplog):
    model, _ = latadj_jax.from_pretrained(folder, "classification", 3)
    assert (model.task, model.config.embedding) == ("classification", None)
    assert "Drawn anew" in caplog.text


def test_a_classifier_saved_into_such_a_folder_is_one(folder):
    latadj_jax.save_pretrained(folder, *tiny.make("bert", "classification", num_hidden_layers=1))
    assert latadj_jax.from_pretrained(folder)[0].task == "classification"


def test_a_plain_folder_is_pooled_by_the_mean(tmp_path):
    model, params = tiny.make("bert", "features", num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params)
    embedder, of_embedder = latadj_jax.from_pretrained(tmp_path, "embedding")
    batch, slots = tiny.mixed_batch()
    out = latadj_jax.apply(embedder, of_embedder, batch)
    for row, at in enumerate(slots):
        expected = np.asarray(out.hidden[row, at]).mean(axis=0)
        np.testing.assert_allclose(out.embedding[row], expected, rtol=1e-5, atol=1e-5)


def test_lower_case_is_read_as_such_whatever_the_tokenizer_does(folder):
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    lower = latadj_jax.load_tokenizer(str(folder))
    assert lower("GOOD")["input_ids"] == tokenizer("good")["input_ids"]
