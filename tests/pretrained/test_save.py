"""What a saved model holds, and what a save may and may not lose."""

import json
import os

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from latadj_jax import Profile, from_pretrained, save_pretrained

FILES = ["config.json", "elimination.json", "model.safetensors"]


def test_half_a_head_is_not_drawn_anew(tmp_path):
    """Fails where a trained bias gets a random kernel beside it."""
    save_pretrained(tmp_path, *tiny.make("bert", "classification"))
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["classifier.weight"]
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"missing: classifier\.weight"):
        from_pretrained(tmp_path)


def test_other_weights_in_the_folder_stay(tmp_path):
    (tmp_path / "adapter.safetensors").write_text("mine")
    (tmp_path / "model-00001-of-00002.safetensors").write_text("an earlier model's")
    save_pretrained(tmp_path, *tiny.make())
    assert (tmp_path / "adapter.safetensors").read_text() == "mine"
    assert not (tmp_path / "model-00001-of-00002.safetensors").exists()


def test_all_files_are_as_readable_as_each_other(tmp_path):
    """safetensors 0.8 gives its files to the owner alone: a server could not read the model."""
    save_pretrained(tmp_path, *tiny.make())
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("task", tiny.TASKS["bert"])
def test_an_artefact_needs_nothing_else(task, tmp_path):
    """Config, weights, profile and default alpha all come back."""
    model, params = tiny.make("bert", task)
    profile = Profile.from_acc([0.8, 0.5, 0.45], "exponential")
    model = model.replace(profile=profile, alpha=0.85)
    save_pretrained(tmp_path / "deep" / "model", model, params)
    loaded, loaded_params = from_pretrained(str(tmp_path / "deep" / "model"))
    assert loaded == model
    assert tiny.same_params(loaded_params, params)
    assert sorted(p.name for p in (tmp_path / "deep").rglob("*.*")) == FILES


def test_saving_again_gives_the_same_bytes(tmp_path):
    save_pretrained(tmp_path / "first", *tiny.make())
    save_pretrained(tmp_path / "second", *from_pretrained(tmp_path / "first"))
    for name in FILES:
        first, second = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert first == second, name


def test_keys_of_the_config_that_are_not_ours_survive(tmp_path):
    folder = tiny.save(tmp_path / "m", "features", pad_token_id=3, custom={"a": [1]})
    save_pretrained(tmp_path / "again", *from_pretrained(folder))
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (config["pad_token_id"], config["custom"]) == (3, {"a": [1]})


def test_saving_over_shards_leaves_none_of_them(tmp_path):
    """A stale index would send transformers to the old weights."""
    folder = tiny.save(tmp_path / "m", "features")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"x": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model, params = tiny.make_model(), tiny.random_params(tiny.make_model(), seed=5)
    save_pretrained(folder, model, params)
    assert sorted(p.name for p in folder.iterdir()) == FILES
    assert tiny.same_params(from_pretrained(folder)[1], params)


def test_weights_of_other_names_are_nobody_s_to_delete(tmp_path):
    folder = tiny.save(tmp_path / "m", "features")
    mine = ("model_backup.safetensors", "model.fp16.safetensors", "model.safetensors.bak")
    for name in mine:
        (folder / name).write_text("mine")
    save_pretrained(folder, *from_pretrained(folder))
    assert {(folder / name).read_text() for name in mine} == {"mine"}


def test_a_tokenizer_is_saved_along(tmp_path):
    class Tokenizer:
        def save_pretrained(self, folder):
            (folder / "vocab.txt").write_text("a\nb\n")

    save_pretrained(tmp_path / "m", *tiny.make(), tokenizer=Tokenizer())
    assert (tmp_path / "m" / "vocab.txt").read_text() == "a\nb\n"


class HalfTokenizer:
    def save_pretrained(self, folder):
        (folder / "tokenizer.json").write_text("{")
        raise OSError("disk full")


class LostArray:
    """A parameter whose device fails when it is read."""

    shape, dtype, ndim = (48,), np.dtype(np.float32), 1

    def __array__(self, *_, **__):
        raise OSError("device lost")


def fail_at_call(number, monkeypatch):
    """The file system fails at the `number`-th move of a file or folder."""
    calls = []

    def failing(function):
        def move(*args, **kwargs):
            calls.append(args)
            if len(calls) == number:
                raise OSError("disk full")
            return function(*args, **kwargs)

        return move

    monkeypatch.setattr(os, "replace", failing(os.replace))
    monkeypatch.setattr(os, "rename", failing(os.rename))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over an earlier one"])
@pytest.mark.parametrize("failure", ["tokenizer", "weights", "move 1", "move 2", "move 3"])
def test_a_failing_save_leaves_what_was_there(tmp_path, monkeypatch, earlier, failure):
    """Nothing half-written, no mixture of two models, no temporary folder."""
    if earlier:
        tiny.save(tmp_path / "m", "features")
    before = contents(tmp_path)
    model = tiny.make_model(hidden_size=48)
    params, tokenizer = tiny.random_params(model), None
    if failure == "tokenizer":
        tokenizer = HalfTokenizer()
    elif failure == "weights":
        params["pooler"]["bias"] = LostArray()
    else:
        fail_at_call(int(failure.split()[1]), monkeypatch)
    with pytest.raises(OSError, match=r"disk full|device lost"):
        save_pretrained(tmp_path / "m", model, params, tokenizer=tokenizer)
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] in (["m"], [])


def test_a_failing_save_leaves_no_folder_above_it(tmp_path):
    model, params = tiny.make()
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(tmp_path / "new" / "a" / "b", model, params, tokenizer=HalfTokenizer())
    with pytest.raises(ValueError, match="tokenizer must be one of transformers; it is 5"):
        save_pretrained(tmp_path / "new" / "a" / "b", model, params, tokenizer=5)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_model_are_not_saved(tmp_path):
    """A classifier saved without its head would load with a random one."""
    model, _ = tiny.make("bert", "classification")
    with pytest.raises(ValueError, match="classifier"):
        save_pretrained(tmp_path / "m", model, tiny.make("bert", "features")[1])
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        save_pretrained(tmp_path / "m", *tiny.make())
    assert (tmp_path / "m").read_text() == "mine"


def test_saving_through_a_link_fills_the_folder_behind_it(tmp_path):
    """Fails where the link is replaced by a folder, or something stays beside it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    save_pretrained(tmp_path / "link", *tiny.make())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "link"]
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == FILES


def test_saving_into_the_working_directory(tmp_path, monkeypatch):
    """The folder must stay the one that the process stands in."""
    monkeypatch.chdir(tmp_path)
    save_pretrained(".", *tiny.make())
    assert sorted(os.listdir()) == FILES
