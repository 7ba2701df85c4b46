"""Which alpha an engine takes: by a speedup, or within milliseconds that it has measured."""

import json
import time

import numpy as np
import pytest
from tiny_engine import ALPHAS, TEXTS, make

import latadj_jax
from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.programs import Shape


def test_a_speedup_takes_the_slowest_alpha_that_reaches_it(parts, engine):
    model = parts[0]
    at = {a: latadj_jax.expected_speedup(model.plan(a, 24)) for a in ALPHAS}
    text = [TEXTS[2]]
    for alpha in ALPHAS:
        np.testing.assert_array_equal(
            engine(text, speedup=at[alpha]), engine(text, alpha=alpha), err_msg=str(alpha)
        )
    with pytest.raises(ValueError, match="out of reach at 24 tokens"):
        engine(text, speedup=at[0.6] + 0.1)
    np.testing.assert_array_equal(
        engine(text, speedup=99, infeasible="fastest"), engine(text, alpha=0.6)
    )


def test_a_budget_takes_the_slowest_alpha_within_it(engine, monkeypatch):
    """Of whole seconds, so that what the tokenizer takes is lost in them."""
    ms = {None: 9e3, 0.9: 6e3, 0.6: 4e3}
    table = {shape: Latency(0.0, ms[shape.alpha]) for shape in engine.latencies}
    monkeypatch.setattr(engine, "_latencies", table)
    text = [TEXTS[2]]
    for budget, alpha in ((9.9e3, None), (9e3, 0.9), (6.9e3, 0.9), (4.9e3, 0.6)):
        np.testing.assert_array_equal(
            engine(text, latency_ms=budget), engine(text, alpha=alpha), err_msg=str(budget)
        )
    with pytest.raises(ValueError, match=r"3900 ms are not enough.*4...\.. ms at alpha 0.6,"):
        engine(text, latency_ms=3900)
    np.testing.assert_array_equal(
        engine(text, latency_ms=3900, infeasible="fastest"), engine(text, alpha=0.6)
    )
    # Two lengths are two batches, whose times add.
    both = ["good", TEXTS[2]]
    np.testing.assert_array_equal(engine(both, latency_ms=8.9e3), engine(both, alpha=0.6))


def test_the_tokenizer_spends_of_the_budget(engine, monkeypatch):
    table = {
        shape: Latency(0.0, 100.0 if shape.alpha is None else 1.0) for shape in engine.latencies
    }
    monkeypatch.setattr(engine, "_latencies", table)
    expected = engine([TEXTS[2]], alpha=0.9)
    encoded = engine._encoded
    monkeypatch.setattr(engine, "_encoded", lambda *given: time.sleep(0.5) or encoded(*given))
    np.testing.assert_array_equal(engine([TEXTS[2]], latency_ms=590), expected)


def test_latencies_are_measured_once_and_read_again(parts, tmp_path):
    file = tmp_path / "latencies.json"
    first = make(parts, latency_file=file).warmup(repeats=2)
    assert all(0 < ms.median_ms <= ms.p95_ms for ms in first.latencies.values())
    again = make(parts, latency_file=file).warmup(repeats=2)
    assert again.latencies == first.latencies
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "machine": {**values["machine"], "jax": "0.0"}}))
    other = make(parts, latency_file=file).warmup(repeats=2)
    assert other.latencies != first.latencies
    file.write_text("{")
    with pytest.raises(ValueError, match="no table of latencies"):
        make(parts, latency_file=file).warmup(repeats=1)


def test_more_alphas_are_measured_beside_those_on_file(parts, tmp_path):
    file = tmp_path / "latencies.json"
    make(parts, latency_file=file).warmup(repeats=1)
    more = make(parts, alphas=(0.6,), latency_file=file).warmup(repeats=1)
    assert set(more.latencies) == {Shape(24, 1, 0.9), Shape(24, 1, 0.6)}


def test_times_that_cannot_be_kept_are_used_all_the_same(parts, tmp_path, caplog):
    engine = make(parts, latency_file=tmp_path / "none" / "latencies.json").warmup(repeats=1)
    assert "measured but not kept" in caplog.text
    assert engine(["good"], latency_ms=1e4).shape == (1, 3)
