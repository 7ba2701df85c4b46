"""Files that are no GGUF, are damaged, or are parts of a split one."""

import os
import sys

import numpy as np
import pytest
from tiny_gguf import SIZES, byte_level, gguf, tiny_tensors, write

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained import gguf as gguf_reader
from latadj_jax.pretrained.gguf import read_config, read_tensors
from latadj_jax.pretrained.gguf_file import ARCHITECTURES, decimal, read_header
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer


def test_decimals_are_the_shortest_of_their_float32():
    assert [decimal(np.float32(v)) for v in (1e-5, 0.1, 5e5, 1.0)] == [1e-5, 0.1, 5e5, 1.0]


def test_another_architecture_is_named(tmp_path):
    file = write(tmp_path / "m", {}, architecture="phi3")
    with pytest.raises(GGUFError, match="m holds architecture 'phi3'; read are llama, qwen2, "):
        read_tensors(file)
    assert tuple(gguf_reader.ARCHITECTURES) == ARCHITECTURES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m cannot be read .FileNotFoundError"),
        (b"", "m is no GGUF file, .*empty file"),
        (b"{}" * 20, "m is no GGUF file, .*magic invalid"),
        (b"GGUF\x09\x00\x00\x00" + bytes(16), "of a newer kind .*version 9"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "m is no GGUF file, or it is truncated"),
        (b"GGUF\x00\x00\x00\x03" + bytes(16), "m is big-endian; only little-endian"),
    ],
)
def test_files_that_are_no_gguf(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(GGUFError, match=message):
        read_config(tmp_path / "m")


def test_truncated_or_damaged_is_one_sentence(tmp_path):
    whole = write(tmp_path / "whole", byte_level(), tiny_tensors(), "Q8_0").read_bytes()
    lengths = (*range(5, 5000, 97), len(whole) // 2, len(whole) - 40)
    contents = [whole[:length] for length in lengths]
    key = b"tokenizer.ggml.token_type"
    length = whole.index(key) + len(key) + 8  # after the types of value and item, 4 bytes each
    contents.append(whole[:length] + b"\xff" * 7 + whole[length + 7 :])  # 2**56 numbers and more
    for content in contents:
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(GGUFError, match=r"m is no GGUF file, or it is truncated") as caught:
            read_config(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_a_file_is_parsed_once_until_it_changes(tmp_path):
    file = write(tmp_path / "m", {})
    os.utime(file, (0, 0))
    header = read_header(file)
    assert read_header(str(file)) is header
    write(file, {"llama.block_count": 2})  # as many bytes as before
    os.utime(file, (1, 1))
    assert read_config(file)["num_hidden_layers"] == 2


def test_without_the_gguf_package_it_is_asked_for(tmp_path, monkeypatch):
    file = write(tmp_path / "m", {})
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(GGUFError, match=r"package gguf, .* pip install 'latadj_jax\[gguf\]'"):
        read_config(file)


PARTS = 4


@pytest.fixture
def parts(tmp_path):
    """A model of twelve tensors in four parts, of which the first alone has its metadata."""
    write(tmp_path / "m", byte_level(), tiny_tensors(), "Q8_0", per_part=3)
    found = sorted(tmp_path.glob("m-*-of-*.gguf"))
    assert [file.name for file in found] == [
        f"m-0000{n}-of-0000{PARTS}.gguf" for n in range(1, PARTS + 1)
    ]
    return found


@pytest.mark.parametrize("named", range(PARTS))
def test_all_parts_are_read_whichever_is_named(tmp_path, parts, named):
    whole = write(tmp_path / "whole.gguf", byte_level(), tiny_tensors(), "Q8_0")
    file = parts[named]
    assert read_config(file) == read_config(whole)
    assert read_tokenizer(file).get_vocab() == read_tokenizer(whole).get_vocab()
    theirs, ours = read_tensors(whole), read_tensors(file)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_parts_are_parsed_once_until_one_changes(parts):
    for file in parts:
        os.utime(file, (0, 0))
    header = read_header(parts[1])
    assert read_header(str(parts[1])) is header
    os.utime(parts[3], (1, 1))
    assert read_header(parts[1]) is not header


def test_missing_parts_are_named(parts):
    parts[2].unlink()
    message = r"m-00002-of-00004\.gguf is one of 4 parts; not beside it: m-00003-of-00004\.gguf\.$"
    with pytest.raises(GGUFError, match=message):
        read_tensors(parts[1])
    parts[0].unlink()
    with pytest.raises(GGUFError, match=r"not beside it: m-00001-of-00004\.gguf and 1 more\.$"):
        read_config(parts[1])
    with pytest.raises(GGUFError, match=r"m-00001-of-00004\.gguf cannot be read \(FileNotFound"):
        read_config(parts[0])


def test_a_part_under_another_name_is_refused(tmp_path, parts):
    lone = parts[0].rename(tmp_path / "model.gguf")
    with pytest.raises(GGUFError, match=r"model\.gguf is one of 4 parts \(split\.count\), but its"):
        read_config(lone)
    lone = lone.rename(tmp_path / "m-00001-of-00003.gguf")
    with pytest.raises(GGUFError, match=r"its name does not end in -00001-of-00004\.gguf or the"):
        read_config(lone)


def write_part(file, n, count, total, names):
    writer = gguf.GGUFWriter(file, "llama")
    for key, value in SIZES.items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    writer.add_uint16("split.no", n)
    writer.add_uint16("split.count", count)
    writer.add_int32("split.tensors.count", total)
    for name in names:
        writer.add_tensor(f"{name}.weight", np.ones(32, "f"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ((0, 2, 2, ["b"]), r"m-00002-of-00002\.gguf does not belong .* are \(0, 2, 2\); .* \(1"),
        ((1, 3, 2, ["b"]), r"split\.count, split\.tensors\.count are \(1, 3, 2\); by its name"),
        ((1, 2, 9, ["b"]), r"are \(1, 2, 9\); by its name and the first part they must be"),
        ((1, 2, 2, ["a"]), r"m-00002-of-00002\.gguf holds a\.weight, which another part holds too"),
        ((1, 2, 2, ["b", "c"]), r"parts hold 3 tensors; split\.tensors\.count is 2"),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together(tmp_path, second, message):
    first = write_part(tmp_path / "m-00001-of-00002.gguf", 0, 2, 2, ["a"])
    write_part(tmp_path / "m-00002-of-00002.gguf", *second)
    with pytest.raises(GGUFError, match=message) as caught:
        read_config(first)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["m-00001-of-00002.gguf", "m-00003-of-00002.gguf"])
def test_a_whole_file_may_be_called_like_a_part(tmp_path, name):
    """One that was merged, and kept its name."""
    assert len(read_tensors(write(tmp_path / name, {}, tiny_tensors()))) == len(tiny_tensors())
