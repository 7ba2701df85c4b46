"""The times that the controller goes by follow what runs take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.programs import Shape

SHORT, LONG = Shape(16, 1, None), Shape(128, 8, 0.8)
MS = {SHORT: 2.0, LONG: 50.0}


def followed() -> LiveLatencies:
    return LiveLatencies({shape: Latency(ms, 1.1 * ms) for shape, ms in MS.items()})


def runs(live, shape, times, start_s, rng, number=40, every_s=0.05) -> float:
    """So many runs, `times` as long as at warm-up but for some noise; when they end."""
    for n in range(number):
        ms = times * MS[shape] * float(np.exp(rng.normal(0, 0.05)))
        live.observe(shape, ms, start_s + n * every_s)
    return start_s + number * every_s


def test_it_starts_from_the_table():
    live = followed()
    assert live.typical_ms(LONG, 0.0) == pytest.approx(50)
    assert live.bound_ms(LONG, 0.0) == pytest.approx(55, rel=0.03)
    assert SHORT in live
    assert Shape(16, 8, None) not in live


@given(st.floats(0.3, 8.0), st.integers(0, 5))
def test_a_neighbour_is_noticed_within_two_seconds_in_what_does_not_run_too(times, seed):
    """Fails where each program is followed by itself, or too slowly."""
    live, rng = followed(), np.random.default_rng(seed)
    now_s = runs(live, SHORT, 1.0, 0.0, rng)
    now_s = runs(live, SHORT, times, now_s, rng)
    assert live.typical_ms(SHORT, now_s) == pytest.approx(2 * times, rel=0.15)
    assert live.typical_ms(LONG, now_s) == pytest.approx(50 * times, rel=0.35)
    now_s = runs(live, SHORT, 1.0, now_s, rng)
    assert live.typical_ms(SHORT, now_s) == pytest.approx(2, rel=0.15)
    assert live.typical_ms(LONG, now_s) == pytest.approx(50, rel=0.35)


def test_what_is_one_program_s_own_is_told_from_the_machine():
    """At warm-up the short one was measured at half of what it takes."""
    live, rng = followed(), np.random.default_rng(0)
    for n in range(1000):
        shape, times = ((SHORT, 2.0), (LONG, 1.0))[n % 2]
        live.observe(shape, times * MS[shape] * float(np.exp(rng.normal(0, 0.05))), n * 0.02)
    assert live.typical_ms(SHORT, 20.0) == pytest.approx(4, rel=0.15)
    assert live.typical_ms(LONG, 20.0) == pytest.approx(50, rel=0.15)


def test_one_pause_says_little():
    live = followed()
    now_s = runs(live, SHORT, 1.0, 0.0, np.random.default_rng(0))
    live.observe(SHORT, 500.0, now_s)
    assert live.typical_ms(SHORT, now_s) < 2 * 1.35


def test_the_bound_holds_for_about_95_percent_of_runs():
    live, rng = followed(), np.random.default_rng(0)
    held = []
    for n in range(2000):
        ms = 2.0 * float(np.exp(rng.normal(0, 0.2)))
        held.append(ms <= live.bound_ms(SHORT, n * 0.01))
        live.observe(SHORT, ms, n * 0.01)
    assert 0.92 < np.mean(held[200:]) < 0.99


def test_without_runs_the_machine_is_forgotten():
    """Else one that refuses everything would never learn that it could serve again."""
    live = followed()
    now_s = runs(live, SHORT, 4.0, 0.0, np.random.default_rng(0))
    assert live.machine(now_s) > 2.5
    assert live.machine(now_s + 20) < 1.05
