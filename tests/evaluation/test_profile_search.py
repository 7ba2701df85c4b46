"""The search for a profile, on a model whose answers and times are made up."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from latadj_jax import Profile, expected_speedup
from latadj_jax.evaluation.profile_search import ORDERS, Candidate, interpolated, search_profile


def test_agreement_is_read_between_what_was_measured():
    found = interpolated((1.0, 4.0), (0.9, 0.5), (2.0, 4.0, 5.0))
    assert found[:2] == pytest.approx((0.7, 0.5))
    assert np.isnan(found[2])
    # What is faster and better serves a slower speed, too; the order of measuring is nothing.
    assert interpolated((3.0, 2.0), (0.8, 0.6), (2.5,)) == pytest.approx((0.8,))


@pytest.mark.parametrize("size", [2, 3, 6, 12])
def test_orders_name_every_layer_but_the_first(size):
    for order in ORDERS.values():
        assert sorted(order(size)) == list(range(2, size + 1))


def searched(worth_of, speedups=(1.5, 2.0), time=lambda plan: 1.0):
    """What is tried of a BERT whose agreement is `worth_of` a candidate's model and plan."""
    model = tiny.make_model("bert", "embedding", num_hidden_layers=6)

    def evaluate(model, params, alphas, served):
        assert served
        rows = []
        for alpha in (None, *alphas):
            plan = model.plan(alpha, 30)
            speed = expected_speedup(plan) * time(plan)
            worth = {"all": {"fidelity": worth_of(model, plan)}}
            rows.append(SimpleNamespace(measured_speedup=speed, metrics=worth))
        return SimpleNamespace(rows=rows)

    return model, search_profile(model, evaluate, None, [30] * 5, speedups)


def test_layers_win_where_skipping_costs_nothing():
    def worth(model, plan):
        return plan.counts[-1] / 30

    model, tried = searched(worth)
    best = tried[0]
    assert (best.candidate.depth, best.agreement) == (1.0, (1.0, 1.0))
    assert best.candidate.of(model).profile == Profile.constant(6).path(1.0)
    assert [one.mean for one in tried] == sorted((one.mean for one in tried), reverse=True)


def test_tokens_win_where_every_layer_is_needed():
    _, tried = searched(lambda model, plan: -len(plan.skipped) - 0.1 * (model.strategy != "score"))
    assert (tried[0].candidate.depth, tried[0].candidate.strategy) == (0.0, "score")


def test_what_saves_no_time_is_never_the_best():
    """Fails where a candidate that never reaches a speedup is judged by its slower answers."""
    _, tried = searched(
        lambda model, plan: 1.0 if plan.skipped else 0.5,
        time=lambda plan: 0.5 if plan.skipped else 1.0,
    )
    reached = [np.isfinite(one.agreement).all() for one in tried]
    assert reached == sorted(reached, reverse=True)
    assert reached[0]
    assert not reached[-1]


def test_where_nothing_is_fast_enough_nothing_is_found():
    with pytest.raises(ValueError, match="nothing reaches a speedup of 2 in time"):
        searched(lambda model, plan: 1.0, time=lambda plan: 1 / expected_speedup(plan))


def test_the_fastest_alpha_is_measured_where_texts_are_short():
    """Of 8 tokens 6 layers reach 5x, but not the step after the last one below it."""
    model = tiny.make_model("bert", "embedding", num_hidden_layers=6)

    def evaluate(model, params, alphas, served):
        plans = [model.plan(alpha, 8) for alpha in (None, *alphas)]
        metrics = {"all": {"fidelity": 1.0}}
        rows = [
            SimpleNamespace(measured_speedup=expected_speedup(p), metrics=metrics) for p in plans
        ]
        return SimpleNamespace(rows=rows)

    tried = search_profile(model, evaluate, None, [8], (5.0,))
    alone = [one for one in tried if not one.candidate.depth and one.candidate.min_tokens == 1]
    assert all(one.agreement == (1.0,) for one in alone)
    assert {one.candidate.min_tokens for one in tried} == {1, 2, 4, 6, 8}


def test_a_candidate_is_a_profile_and_a_strategy():
    model = tiny.make_model("bert", "ranking", num_hidden_layers=6)
    made = Candidate("merge", "falling", 0.5, "every other", min_tokens=4).of(model)
    assert made.strategy == "merge"
    path = Profile.falling(6).path(0.5, (2, 4, 3, 5, 6))
    assert made.profile == dataclasses.replace(path, min_tokens=4)
