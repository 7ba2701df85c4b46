"""Reading the files of a checkpoint: every format gives the same parameters, or one sentence."""

import sys
from pathlib import Path

import flax
import ml_dtypes
import numpy as np
import pytest
import tiny
from tiny_weights import WRITERS, assert_equal, load, state, without_weights, write_shards

import latadj_jax
from latadj_jax.errors import WeightsError
from latadj_jax.pretrained.weights import read_tensors


@pytest.fixture
def folder(tmp_path):
    return without_weights(tmp_path)


@pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_parameters(folder, name, sharded):
    tensors = state()
    if sharded:
        write_shards(tensors, folder, name)
    else:
        WRITERS[name](tensors, folder / name)
    read = latadj_jax.from_pretrained(folder)[1]
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    assert_equal(read, load(folder, tensors))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", WRITERS)
def test_half_precision_tensors_are_read_exactly(folder, name, dtype):
    half = {key: array.astype(dtype) for key, array in state().items()}
    if name == "pytorch_model.bin":
        torch = pytest.importorskip("torch")
        kind = torch.float16 if dtype == np.float16 else torch.bfloat16
        torch.save({k: torch.tensor(v.astype(np.float32)).to(kind) for k, v in half.items()},
                   folder / name)  # fmt: skip
    else:
        WRITERS[name](half, folder / name)
    read = latadj_jax.from_pretrained(folder)[1]
    (folder / name).unlink()
    assert_equal(read, load(folder, {k: v.astype(np.float32) for k, v in half.items()}))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", WRITERS)
def test_truncated_files_are_refused_by_name(folder, name, share):
    WRITERS[name](state(), folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match=f"{name} cannot be read"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_shard_is_named(folder, name):
    write_shards(state(), folder, name)
    stem, suffix = name.rsplit(".", 1)
    shard = f"{stem}-00002-of-00002.{suffix}"
    (folder / shard).unlink()
    with pytest.raises(WeightsError, match=f"lacks the shard {shard}"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}']
)
def test_a_broken_index_is_named(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json.*weight_map"):
        latadj_jax.from_pretrained(folder)


def test_a_folder_without_weights_says_what_was_looked_for(folder):
    with pytest.raises(WeightsError, match=r"no weights.*model\.safetensors.*flax_model\.msgpack"):
        latadj_jax.from_pretrained(folder)


def test_reading_a_torch_file_without_torch_says_how_to_go_on(folder, monkeypatch):
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"needs torch.*pip install torch.*safetensors"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x93\x01\x02\x03"])
def test_a_torch_file_that_cannot_be_read_is_one_sentence(folder, content):
    pytest.importorskip("torch")
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"bin cannot be read \(\w+.*\); fetch it") as error:
        latadj_jax.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_torch_file_of_parameters_is_read(folder):
    torch = pytest.importorskip("torch")
    tensors = state()
    parameters = {name: torch.nn.Parameter(torch.tensor(t)) for name, t in tensors.items()}
    torch.save(parameters, folder / "pytorch_model.bin")
    params = latadj_jax.from_pretrained(folder)[1]
    assert_equal(params, load(folder, tensors))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"state_dict": {}, "epoch": 3},
            "holds 'state_dict', which is no dense tensor but .* dict",
        ),
        ([1, 2], "holds a list; save"),
    ],
)
def test_a_torch_file_of_something_else_says_what_to_save(folder, saved, message):
    torch = pytest.importorskip("torch")
    torch.save(saved, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=rf"pytorch_model\.bin {message}"):
        latadj_jax.from_pretrained(folder)


def test_the_tensors_of_a_file_share_one_descriptor(tmp_path):
    """A Mac grants a process 256 of them."""
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("this system does not show what is open")
    folder = tiny.save(tmp_path, "features")
    before = len(list(open_files.iterdir()))
    tensors = read_tensors(folder)
    assert len(tensors) > 20
    assert len(list(open_files.iterdir())) - before <= 1


def test_a_flax_file_of_collections_is_read(folder):
    """Checkpoints of plain Flax hold the parameters under "params"."""
    file = folder / "flax_model.msgpack"
    WRITERS[file.name](state(), file)
    expected = latadj_jax.from_pretrained(folder)[1]
    tree = flax.serialization.msgpack_restore(file.read_bytes())
    file.write_bytes(flax.serialization.msgpack_serialize({"params": tree}))
    assert_equal(latadj_jax.from_pretrained(folder)[1], expected)
