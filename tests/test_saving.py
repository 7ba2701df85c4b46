"""What a saved model may and may not lose."""

import pytest
import tiny
from safetensors.numpy import load_file, save_file

from latadj_jax import from_pretrained, save_pretrained


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
