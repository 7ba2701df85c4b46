"""A batch that is computed in parts, several at once, is what it is as a whole."""

import threading

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

from latadj_jax.model import row_chunks
from latadj_jax.serving import programs
from latadj_jax.serving.programs import Programs, Shape

LENGTH = 16


@pytest.fixture
def two_cores(monkeypatch):
    """As on a process's only CPU; two rows are enough for a part, whatever is left of them."""
    monkeypatch.setattr(programs, "cores", lambda: 2)
    monkeypatch.setattr(row_chunks, "TOKENS", 2 * LENGTH)
    monkeypatch.setattr(row_chunks, "BESIDE", 2)


def examples(number: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"input_ids": rng.integers(1, 90, 5 + n).astype(np.int32)} for n in range(number)]


@pytest.mark.parametrize("task", ["classification", "token-classification"])
@pytest.mark.parametrize("alpha", [None, 0.6])
@pytest.mark.parametrize("number", [1, 3, 8])
def test_parts_change_nothing(request, task, alpha, number):
    """Fails where rows change places, or where those that fill a batch up come back."""
    model, params = tiny.make("bert", task)
    shape = Shape(LENGTH, 8, alpha)
    whole = Programs(model, params)
    request.getfixturevalue("two_cores")
    in_parts = Programs(model, params)
    for each in (whole, in_parts):
        each.compile([shape])
    expected, found = (each.run(shape, examples(number)) for each in (whole, in_parts))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, **SAME)


def test_parts_are_computed_at_the_same_time(two_cores, monkeypatch):
    """Each waits for another; one after another they would wait for ever."""
    model, params = tiny.make("bert", "classification")
    in_parts, shape = Programs(model, params), Shape(LENGTH, 4, None)
    in_parts.compile([shape])
    both = threading.Barrier(2, timeout=30)
    ((part, program),) = in_parts._compiled.items()

    def beside_another(*args):
        both.wait()
        return program(*args)

    monkeypatch.setitem(in_parts._compiled, part, beside_another)
    assert in_parts.run(shape, examples(4)).shape == (4, 3)


def test_batches_of_like_parts_share_a_program(two_cores):
    model, params = tiny.make("bert", "classification")
    in_parts = Programs(model, params)
    shapes = [Shape(LENGTH, size, None) for size in (1, 4, 8, 16)]
    in_parts.compile(shapes)
    assert in_parts.shapes == shapes
    assert len(in_parts) == 2  # of one row, and of two
    with pytest.raises(KeyError):
        in_parts.run(Shape(LENGTH, 2, None), examples(2))


def test_what_fails_in_a_part_fails_the_batch(two_cores, monkeypatch):
    model, params = tiny.make("bert", "classification")
    in_parts, shape = Programs(model, params), Shape(LENGTH, 4, None)
    in_parts.compile([shape])
    ((part, program),) = in_parts._compiled.items()

    def fails_at_the_last(params, inputs):
        if (inputs["input_ids"][-1] == 99).any():
            raise RuntimeError("no memory")
        return program(params, inputs)

    monkeypatch.setitem(in_parts._compiled, part, fails_at_the_last)
    with pytest.raises(RuntimeError, match="no memory"):
        in_parts.run(shape, [*examples(3), {"input_ids": np.array([99], np.int32)}])


def test_a_text_that_does_not_fit_is_named_by_its_place_in_the_batch(two_cores):
    model, params = tiny.make("bert", "classification")
    in_parts, shape = Programs(model, params), Shape(LENGTH, 4, None)
    in_parts.compile([shape])
    too_long = {"input_ids": np.ones(LENGTH + 1, np.int32)}
    with pytest.raises(ValueError, match="example 3 has 17 tokens"):
        in_parts.run(shape, [*examples(3), too_long])


def test_only_a_cpu_that_is_alone_has_parts(monkeypatch):
    assert jax.device_count() > 1
    assert row_chunks.cores() == 0
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(row_chunks.os, "sched_getaffinity", lambda _: {0, 2, 3}, raising=False)
    assert row_chunks.cores() == 3
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert row_chunks.cores() == 0
