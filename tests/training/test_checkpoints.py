"""Checkpoints come back exactly, or are put aside: whichever of their files is damaged."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latadj_jax.training.checkpoints import Checkpoints, checksum

# What orbax began to read when it met damage is never awaited: garbage, in any test after it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state(value: float = 1.0):
    value = float(value)
    return {"a": jnp.full((64, 32), value), "b": {"c": jnp.arange(5), "d": jnp.float32(value)}}


def saved(folder: Path, *steps: int, **options) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, state(step))
    checkpoints.wait()
    return checkpoints


def arrays_in(folder: Path) -> list[Path]:
    """Files that hold the numbers of all processes, the largest first."""
    files = [file for file in (folder / "state" / "d").rglob("*") if file.is_file()]
    return sorted(files, key=lambda file: -file.stat().st_size)


def test_the_newest_checkpoints_stay_and_come_back_exactly(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(int(f.name) for f in tmp_path.glob("[0-9]*")) == [3, 4]
    checkpoints.save(5, state(5), pending=(0.1, np.float32(0.7)))
    checkpoints.wait()
    assert checkpoints.restore_newest(state(0.0))[2] == [0.1, float(np.float32(0.7))]
    step, found, _ = checkpoints.restore_newest(state(0.0))
    assert step == 5
    jax.tree.map(np.testing.assert_array_equal, found, state(5))
    checkpoints.close()


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, watched=True)
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5), (4, None), (5, 0.8)):
        checkpoints.save(step, state(step), loss=loss)
    checkpoints.wait()
    assert (checkpoints.best, checkpoints.newest) == (2, 5)
    assert sorted(int(f.name) for f in tmp_path.glob("[0-9]*")) == [2, 5]
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=1, watched=True)
    assert again.best == 2
    again.close()


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip_a_bit])
@pytest.mark.parametrize("which", [0, -1], ids=["largest", "smallest"])
def test_a_damaged_newest_checkpoint_is_put_aside(tmp_path, caplog, damage, which):
    saved(tmp_path, 5, 10).close()
    damage(arrays_in(tmp_path / "10")[which])
    checkpoints = Checkpoints(tmp_path)
    with caplog.at_level("WARNING", "latadj_jax"):
        step, found, _ = checkpoints.restore_newest(state(0.0))
    if step == 10:  # a file of no consequence: then the numbers are right
        jax.tree.map(np.testing.assert_array_equal, found, state(10))
    else:
        assert step == 5
        jax.tree.map(np.testing.assert_array_equal, found, state(5))
        assert (tmp_path / "10.damaged").is_dir()
        assert "checkpoint 10" in caplog.text
        assert "trying the one before" in caplog.text
    if which == 0:
        assert step == 5
    checkpoints.save(10, state(11))
    assert checkpoints.restore_newest(state(0.0))[0] == 10
    checkpoints.close()


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip_a_bit])
def test_any_file_of_a_checkpoint_may_be_damaged(tmp_path, damage):
    """Metadata, what the checkpoint says of itself, losses: the run goes on with right numbers."""
    first = Checkpoints(tmp_path / "whole", watched=True)
    for step in (5, 10):
        first.save(step, state(step), loss=1 / step)
    first.close()
    names = [f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole" / "10").rglob("*")
             if f.is_file() and f.stat().st_size]  # fmt: skip
    assert len(names) > 5
    for n, name in enumerate(names):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / name)
        with closing(Checkpoints(folder, watched=True)) as checkpoints:
            assert checkpoints.best in (5, 10), name
            step, found, _ = checkpoints.restore_newest(state(0.0))
        assert step in (5, 10), name
        jax.tree.map(np.testing.assert_array_equal, found, state(step))


def test_numbers_other_than_those_saved_are_noticed(tmp_path):
    """A missing chunk may read as zeros, without an error."""
    checkpoints = saved(tmp_path, 3)
    about = next((tmp_path / "3" / "about").glob("*"))
    about.write_text(json.dumps({"checksum": 1}))
    with pytest.raises(ValueError, match=r"none of the checkpoints .*\(steps \[3\]\).*start anew"):
        checkpoints.restore_newest(state(0.0))
    assert (tmp_path / "3").is_dir()  # left as it is
    checkpoints.close()


def test_the_checksum_sees_every_bit():
    base = int(checksum(state()))
    changed = state()
    changed["a"] = changed["a"].at[63, 31].set(np.nextafter(np.float32(1), np.float32(2)))
    assert int(checksum(changed)) != base
    one, two = {"x": jnp.zeros(3), "y": jnp.ones(3)}, {"x": jnp.ones(3), "y": jnp.zeros(3)}
    assert int(checksum(one)) != int(checksum(two))
    swapped = {"x": jnp.arange(5.0), "y": jnp.arange(5.0)[::-1]}
    assert int(checksum(swapped)) != int(checksum({"x": swapped["y"], "y": swapped["y"]}))
    half = {"x": jnp.full(3, 1.5, jnp.bfloat16)}
    assert int(checksum(half)) != int(checksum({"x": jnp.full(3, -1.5, jnp.bfloat16)}))
