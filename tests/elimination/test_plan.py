import dataclasses
import fractions
import math

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import Profile, expected_speedup, macs, make_plan, solve_alpha
from latadj_jax.elimination.alpha import parse_alpha
from latadj_jax.model.dynamic_counts import simulate

rates = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12)
alphas = st.floats(0.05, 2.0)
lengths = st.integers(1, 300)
protections = st.integers(0, 4)


def counts_by_hand(rates, alpha, n, protected=1, min_tokens=1):
    """N_1..N_L of section 3, in Python's own float64."""
    floor = max(1, protected, min_tokens)
    counts = []
    for ep in rates:
        rate = min(1.0, alpha * ep)
        n = min(n, max(floor, math.floor(rate * n + 1e-6)))
        counts.append(n)
    return counts


@hypothesis.given(rates, alphas, lengths, protections)
def test_counts_follow_the_formula_for_every_valid_length(rates, alpha, length, protected):
    plan = make_plan(Profile(rates), alpha, length, protected=protected)
    assert list(plan.counts) == counts_by_hand(rates, alpha, length, protected)
    expected = [counts_by_hand(rates, alpha, n, protected) for n in range(length + 1)]
    np.testing.assert_array_equal(plan.table, expected)


@hypothesis.given(rates, alphas, lengths, protections, st.integers(1, 12))
def test_every_layer_keeps_the_least_number_of_tokens(rates, alpha, length, protected, min_tokens):
    profile = Profile(rates, min_tokens=min_tokens)
    plan = make_plan(profile, alpha, length, protected=protected)
    expected = [counts_by_hand(rates, alpha, n, protected, min_tokens) for n in range(length + 1)]
    np.testing.assert_array_equal(plan.table, expected)
    assert plan.floor == max(1, protected)  # of the positions; those beside them may be any


def test_texts_no_longer_than_the_least_number_of_tokens_are_read_densely():
    model, params = tiny.make("bert", "embedding")
    least = dataclasses.replace(tiny.PROFILE, min_tokens=6)
    model = model.replace(profile=least, strategy="distinct")
    for length, same in ((6, True), (7, False)):
        batch = {"input_ids": np.arange(3, 3 + length, dtype=np.int32)[None]}
        dense, fast = (latadj_jax.apply(model, params, batch, a).embedding for a in (None, 0.01))
        assert np.allclose(fast, dense, **SAME) == same


@hypothesis.given(rates, alphas, lengths, protections)
def test_counts_never_rise_along_layers_nor_fall_under_the_floor(rates, alpha, length, protected):
    plan = make_plan(Profile(rates), alpha, length, protected=protected)
    for n in range(1, length + 1):
        counts = plan.table[n]
        assert (np.diff([n, *counts]) <= 0).all()
        assert counts[-1] >= min(n, max(1, protected))


@hypothesis.given(rates, alphas, alphas, lengths)
def test_counts_never_fall_when_alpha_rises(rates, alpha, other, length):
    low, high = sorted((alpha, other))
    slow, fast = (make_plan(Profile(rates), a, length) for a in (high, low))
    assert (slow.table >= fast.table).all()
    assert expected_speedup(slow) <= expected_speedup(fast)


@hypothesis.given(st.data(), rates, alphas, alphas, lengths)
def test_alpha_acts_by_each_layers_own_exponent(data, rates, alpha, other, length):
    """Rates are EP_l alpha^w_l, and the promise about alpha holds whatever the exponents."""
    size = len(rates)
    exponents = data.draw(st.lists(st.floats(0.1, 4.0), min_size=size, max_size=size))
    profile = Profile(rates, exponents=tuple(exponents))
    low, high = sorted((alpha, other))
    slow, fast = (make_plan(profile, a, length) for a in (high, low))
    assert fast.rates == tuple(
        min(1.0, low**w * ep) for ep, w in zip(rates, exponents, strict=True)
    )
    assert (slow.table >= fast.table).all()
    assert make_plan(profile, 1.0, length).counts == make_plan(Profile(rates), 1.0, length).counts
    assert make_plan(profile, None, length).is_dense


@pytest.mark.parametrize(
    ("alpha", "exponent", "counts"),
    [
        (1e300, 10.0, (64, 64)),  # 1e3000 is no float
        (1e300, 1.0, (64, 64)),
        (1e300, 1e-3, (63, 62)),  # 10^0.3 / 2 is 0.998
        (1e-300, 10.0, (1, 1)),
        (1e-300, 1e-3, (16, 4)),  # 10^-0.3 / 2 is 0.251
    ],
)
def test_the_smallest_and_the_largest_alpha_have_a_plan(alpha, exponent, counts):
    profile = Profile((0.5, 0.5), exponents=(exponent, exponent))
    assert make_plan(profile, alpha, 64).counts == counts
    assert make_plan(profile, solve_alpha(profile, 64, 3.0), 64).counts[-1] < 20


@hypothesis.given(rates, alphas, lengths)
def test_counts_never_fall_when_the_example_grows(rates, alpha, length):
    """Else a buffer of the longest example could not hold a shorter one."""
    assert (np.diff(make_plan(Profile(rates), alpha, length).table, axis=0) >= 0).all()


@hypothesis.given(rates, alphas, lengths)
def test_buffers_hold_the_counts_of_every_example(rates, alpha, length):
    plan = make_plan(Profile(rates), alpha, length)
    assert len(plan.counts) == plan.num_layers == len(rates)
    assert (plan.table <= np.asarray(plan.counts)).all()
    assert list(plan.counts) == sorted(plan.counts, reverse=True)


def test_buffers_are_the_counts_of_the_whole_length():
    plan = make_plan(Profile.constant(3), 0.7, 20)
    assert plan.counts == (14, 9, 6)


@pytest.mark.parametrize(
    ("rate", "n", "kept"),
    [
        (0.29, 100, 29),  # 28.999999999999996 in float64
        (0.42, 150, 63),  # 62.999998 in float32
        (0.52, 225, 117),  # 116.99999 in float32
        (0.9, 9, 8),
        (0.999999, 10, 9),
        (0.99999999, 10, 10),
        (0.01, 50, 1),
        (0.5, 1, 1),
    ],
)
def test_counts_are_rounded_down_in_float64(rate, n, kept):
    """Fails with rounding up or to nearest, in float32, or without the 1e-6 for float noise."""
    plan = make_plan(Profile.constant(1), rate, 512)
    assert plan.table[n].tolist() == [kept]
    assert jax.jit(plan.example_counts)(np.array([n], np.int32)).tolist() == [[kept]]


def test_protected_positions_raise_the_floor():
    assert make_plan(Profile.constant(4), 0.3, 20, protected=3).counts == (6, 3, 3, 3)
    assert make_plan(Profile.constant(4), 0.3, 20, protected=0).counts == (6, 1, 1, 1)


def test_an_example_shorter_than_the_floor_keeps_what_it_has():
    plan = make_plan(Profile.constant(2), 0.3, 20, protected=3)
    assert plan.example_counts(np.array([2])).tolist() == [[2, 2]]


def test_alpha_scales_the_profile_up_to_one():
    assert make_plan(Profile((0.5, 0.8)), 1.2, 10).rates == (0.6, 0.96)
    assert make_plan(Profile((0.5, 0.8)), 1.5, 10).rates == (0.75, 1.0)


def test_no_alpha_is_dense_whatever_the_profile():
    plan = make_plan(Profile((0.1, 0.2)), None, 10)
    assert plan.counts == (10, 10)
    assert plan.is_dense
    assert not make_plan(Profile((0.1, 0.2)), 1.0, 10).is_dense


def test_padded_counts_follow_the_padded_length_and_drop_padding_first():
    plan = make_plan(Profile.constant(2), 0.5, 16, count="padded")
    assert plan.counts == (8, 4)
    assert plan.example_counts(np.array([16, 6, 3])).tolist() == [[8, 4], [6, 4], [3, 3]]


def test_equal_plans_are_one_key():
    """A compiled program is looked up by its plan."""
    args = (Profile((0.5, 0.8)), 0.9, 32)
    plan = make_plan(*args)
    assert len(plan.table) == 33  # cached properties must not change the hash
    assert {plan: 1}[make_plan(*args)] == 1
    assert plan != make_plan(*args, count="padded")
    assert plan != make_plan(*args, strategy="tail")
    assert all(type(n) is int for n in plan.counts)


def test_an_alpha_as_commands_take_it():
    assert (parse_alpha("dense"), parse_alpha("0.8")) == (None, 0.8)
    for text, message in (("fast", "'fast' is neither"), ("0", "greater than 0")):
        with pytest.raises(ValueError, match=message):
            parse_alpha(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": [0.9, 0.9]}, "profile must be a Profile"),
        ({"alpha": 0.0}, "alpha.*greater than 0"),
        ({"alpha": -0.5}, "alpha.*greater than 0"),
        ({"alpha": math.nan}, "alpha.*finite"),
        ({"alpha": math.inf}, "alpha.*finite"),
        ({"alpha": 10**400}, "alpha.*finite"),
        ({"alpha": fractions.Fraction(1, 10**400)}, "alpha.*greater than 0"),
        ({"alpha": True}, "alpha.*number"),
        ({"alpha": "0.9"}, "alpha.*number"),
        ({"alpha": np.ones(2)}, "alpha.*number"),
        ({"length": 0}, "length.*at least 1"),
        ({"length": -3}, "length.*at least 1"),
        ({"length": 2.5}, "length.*integer"),
        ({"length": True}, "length.*integer"),
        ({"count": "all"}, "count.*valid, padded.*all"),
        ({"strategy": "best"}, "strategy.*score.*best"),
        ({"protected": -1}, "protected"),
    ],
)
def test_impossible_plans_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**{"profile": Profile.constant(2), "alpha": 0.9, "length": 10, **changes})


def test_what_is_no_profile_or_of_other_layers_is_refused():
    model = tiny.make_model()
    with pytest.raises(ValueError, match="profile must be a Profile, such as model"):
        solve_alpha(model, 10, 2.0)
    with pytest.raises(ValueError, match="profile must be a Profile"):
        model.replace(profile=[0.9, 0.9, 0.9])
    with pytest.raises(ValueError, match="the plan is for 2 layers, the model has 3"):
        macs(model, make_plan(Profile.constant(2), 0.9, 10))


def test_model_plan_uses_its_profile_and_protects_cls():
    plan = tiny.make_model().plan(1.0, 10)
    assert plan == make_plan(tiny.PROFILE, 1.0, 10, protected=1, strategy="score")


def test_a_plan_that_names_no_strategy_takes_the_models():
    """Of a model that merges it would give, in silence, what forgetting gives."""
    model, params = tiny.make("bert", "classification")
    model, (batch, _) = model.replace(strategy="merge"), tiny.mixed_batch()
    length = batch["input_ids"].shape[1]
    plan, asked = make_plan(model.profile, 0.8, length), model.plan(0.8, length)
    own = latadj_jax.apply(model, params, batch, plan=plan)
    np.testing.assert_array_equal(own.logits, latadj_jax.apply(model, params, batch, 0.8).logits)
    simulated = simulate(model, params, batch, plan)
    np.testing.assert_allclose(own.logits, simulated.logits, **SAME)
    forgets = dataclasses.replace(asked, strategy="score")
    other = latadj_jax.apply(model, params, batch, plan=forgets)
    assert np.abs(own.logits - other.logits).max() > 1e-3
    assert macs(model, plan) == macs(model, asked) > macs(model, forgets)
