"""What a plan saves: expected speedup, multiply-accumulates, and the alpha for a speedup."""

import dataclasses
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tiny

from latadj_jax import Profile, expected_speedup, layer_macs, macs, make_plan, solve_alpha

rates = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)
lengths = st.integers(1, 300)


def test_expected_speedup_by_hand():
    """10 -> 5 -> 2: (10 / 4 + 3 * 5 / 4) + (5 / 4 + 3 * 2 / 4) = 9 where dense has 20."""
    plan = make_plan(Profile.constant(2), 0.5, 10)
    assert plan.counts == (5, 2)
    assert expected_speedup(plan) == pytest.approx(20 / 9)


def test_expected_speedup_of_the_paper_with_its_last_term():
    """3.09, as printed there, is the sum over 11 of 12 layers."""
    plan = make_plan(Profile.constant(12, rate=0.8), 1.0, 100_000)
    assert expected_speedup(plan) == pytest.approx(3.03, abs=0.005)


def test_dense_speedup_is_one():
    assert expected_speedup(make_plan(Profile.constant(5), None, 77)) == 1.0


def test_macs_of_bert_base_by_the_formula():
    """3 d^2 N + d N^2 + (d N + d^2 + 8 d^2) N', for d = 768 and a feed-forward of 4 d."""
    model = tiny.make_model(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_hidden_layers=3
    )
    plan = make_plan(Profile.constant(3), 0.5, 101)
    d = 768
    expected = [
        3 * d**2 * n + d * n**2 + (d * n + d**2 + 8 * d**2) * kept
        for n, kept in ((101, 50), (50, 25), (25, 12))
    ]
    assert list(layer_macs(model, plan)) == expected
    assert macs(model, plan) == sum(expected)


def test_macs_follow_the_feed_forward_width():
    """One more unit costs d multiplications in and d out, for each kept word-vector."""
    plan = make_plan(Profile.constant(3), 0.5, 20)
    narrow, wide = (tiny.make_model(intermediate_size=f) for f in (48, 49))
    assert macs(wide, plan) - macs(narrow, plan) == 2 * 32 * sum(plan.counts)


@hypothesis.given(rates, st.sampled_from((0.2, 1.0, 3.0)), st.integers(1, 200), st.floats(1.0, 3.0))
def test_solved_alpha_is_the_largest_that_reaches_the_speedup(rates, first, length, speedup):
    profile = Profile(rates, exponents=(first, *(1.0,) * (len(rates) - 1)))
    most = expected_speedup(make_plan(profile, 1e-30, length))
    if most < speedup:
        with pytest.raises(ValueError, match=r"out of reach.*shorter|out of reach.*longer"):
            solve_alpha(profile, length, speedup)
        return
    alpha = solve_alpha(profile, length, speedup=speedup)
    assert expected_speedup(make_plan(profile, alpha, length)) >= speedup
    if speedup > 1:
        more = make_plan(profile, alpha * (1 + 1e-6), length)
        assert more.is_dense or expected_speedup(more) < speedup


def test_solved_alpha_of_one_whole_step():
    """Length 10, one layer: 2x needs 10 / (10 / 4 + 3 n / 4) >= 2, so n = 3, from rate 0.4 down."""
    alpha = solve_alpha(Profile.constant(1), 10, 2.0)
    assert make_plan(Profile.constant(1), alpha, 10).counts == (3,)
    assert alpha == pytest.approx(0.4, abs=1e-6)


def test_solved_alpha_of_no_speedup_is_dense():
    profile = Profile((0.3, 0.7))
    assert make_plan(profile, solve_alpha(profile, 50, 1.0), 50).counts == (50, 50)


def test_solve_alpha_minds_protected_positions():
    profile = Profile.constant(4)
    assert solve_alpha(profile, 20, 4.0, protected=1) > 0
    with pytest.raises(ValueError, match="out of reach"):
        solve_alpha(profile, 20, 4.0, protected=10)


def test_solve_alpha_minds_the_least_number_of_tokens():
    profile = Profile.constant(4)
    few = dataclasses.replace(profile, min_tokens=6)
    assert solve_alpha(few, 12, 1.7) < solve_alpha(profile, 12, 1.7)
    with pytest.raises(ValueError, match="out of reach"):
        solve_alpha(few, 6, 1.1)


@pytest.mark.parametrize("speedup", [0.5, 0.0, -1.0, math.nan, math.inf])
def test_solve_alpha_refuses_impossible_speedups(speedup):
    with pytest.raises(ValueError, match="speedup"):
        solve_alpha(Profile.constant(2), 10, speedup)


def test_expected_speedup_of_many_texts_is_the_ratio_of_the_sums():
    """10 -> 5 -> 2 is work 9 of 20; 4 -> 2 -> 1 is (1 + 1.5) + (0.5 + 0.75) = 3.75 of 8."""
    plan = make_plan(Profile.constant(2), 0.5, 12)
    assert expected_speedup(plan, [10, 4, 4]) == pytest.approx(36 / (9 + 2 * 3.75))
    assert expected_speedup(plan, {4: 2, 10: 1}) == expected_speedup(plan, [10, 4, 4])
    assert expected_speedup(plan, 12) == expected_speedup(plan)
    with pytest.raises(ValueError, match="the plan is for 12 tokens; a text has 13"):
        expected_speedup(plan, [3, 13])


@hypothesis.given(rates, st.lists(lengths, min_size=1, max_size=5), st.floats(1.0, 2.5))
def test_solved_alpha_is_the_largest_that_is_fast_enough(rates, texts, speedup):
    profile, longest = Profile(rates), max(texts)
    fastest = expected_speedup(make_plan(profile, 1e-6, longest), texts)
    hypothesis.assume(fastest >= speedup)
    alpha = solve_alpha(profile, texts, speedup)
    assert expected_speedup(make_plan(profile, alpha, longest), texts) >= speedup
    slower = make_plan(profile, alpha * (1 + 1e-6), longest)
    assert expected_speedup(slower, texts) < speedup or slower.is_dense


def test_one_length_is_many_texts_of_it():
    profile = Profile.constant(6)
    one = solve_alpha(profile, 128, 2.0)
    assert one == solve_alpha(profile, [128, 128], 2.0) == solve_alpha(profile, {128: 7}, 2.0)
    assert one == solve_alpha(profile, np.full(3, 128), 2.0)


def test_a_head_that_reads_cls_alone_leaves_more_to_the_other_layers():
    profile = Profile.constant(4)
    whole, head = (solve_alpha(profile, 64, 2.0, reads_all=r) for r in (True, False))
    assert head > whole
    plan = make_plan(profile, head, 64).for_head()
    assert expected_speedup(plan) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("wrong", [[], {}, [0, 4], [1.5], "12", None, {4: 0}, True])
def test_lengths_that_are_none_are_one_sentence(wrong):
    with pytest.raises(ValueError, match="length must be an integer of at least 1, or those of"):
        solve_alpha(Profile.constant(2), wrong, 2.0)
