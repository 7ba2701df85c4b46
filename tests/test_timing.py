import time

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.timing import count_compilations, interleaved_ms


def test_alternatives_take_turns_and_are_compiled_before():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times_ms = interleaved_ms(runs, repeats=3)
    assert order == ["a", "b"] * 4
    assert [len(times) for times in times_ms.values()] == [3, 3]


def test_what_has_run_for_long_enough_runs_no_more():
    runs = {"slow": lambda: time.sleep(0.02), "fast": lambda: None}
    times_ms = interleaved_ms(runs, repeats=9, enough_ms=10)
    assert {name: len(times) for name, times in times_ms.items()} == {"slow": 5, "fast": 9}


def test_time_includes_what_the_device_still_does():
    """Fails if the clock stops when the call returns, before the result is there."""
    x = jnp.asarray(np.ones((1500, 1500), np.float32))
    heavy, light = jax.jit(lambda x: x @ x @ x @ x), jax.jit(lambda x: x[0])
    times_ms = interleaved_ms({"heavy": lambda: heavy(x), "light": lambda: light(x)}, repeats=3)
    assert np.median(times_ms["heavy"]) > 5 * np.median(times_ms["light"])


def test_compilations_are_counted_inside_the_block_only():
    program, x = jax.jit(lambda x: x * 2), np.ones(3, np.float32)
    with count_compilations() as compilations:
        program(x)
        program(x)
    assert len(compilations) == 1
    jax.jit(lambda x: x * 3)(x)
    assert len(compilations) == 1
