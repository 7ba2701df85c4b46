import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import latadj_jax
from latadj_jax import Profile

FITS = ("linear", "quadratic", "exponential", "none")
LAYERS = np.arange(1, 7)


def test_constant_keeps_everything_unless_told_otherwise():
    assert Profile.constant(3).rates == (1.0, 1.0, 1.0)
    assert Profile.constant(2, rate=0.8).rates == (0.8, 0.8)
    assert Profile.constant(5).num_layers == 5


def test_rates_are_quotients_of_neighbours_starting_at_one():
    """EP_1 is f(1), EP_l is f(l) / f(l-1); fails with f(1) left out or the quotient inverted."""
    profile = Profile.from_acc([0.8, 0.6, 0.3], fit="none")
    np.testing.assert_allclose(profile.rates, [0.8, 0.75, 0.5])
    assert profile.acc == profile.curve == (0.8, 0.6, 0.3)


def test_elimination_halts_where_the_curve_rises():
    profile = Profile.from_acc([0.5, 0.7, 0.35, 0.9], fit="none")
    np.testing.assert_allclose(profile.rates, [0.5, 1.0, 0.5, 1.0])


def test_first_rate_is_at_most_one():
    assert Profile.from_acc([1.3, 0.65], fit="none").rates == (1.0, 0.5)


@pytest.mark.parametrize(
    ("fit", "curve"),
    [
        ("linear", 0.9 - 0.1 * LAYERS),
        ("quadratic", 0.95 - 0.3 * LAYERS + 0.03 * LAYERS**2),
        ("exponential", 0.9 * 0.7**LAYERS),
    ],
)
def test_fit_finds_a_curve_of_its_own_kind(fit, curve):
    profile = Profile.from_acc(curve, fit)
    expected = np.minimum(1.0, curve / np.r_[1.0, curve[:-1]])
    np.testing.assert_allclose(profile.curve, curve, rtol=1e-5)
    np.testing.assert_allclose(profile.rates, expected, rtol=1e-5)
    assert profile.fit == fit


@pytest.mark.parametrize(("fit", "degree"), [("linear", 1), ("quadratic", 2)])
def test_polynomial_fit_is_least_squares(fit, degree):
    """Fails where the curve is bent to stay over the measured values, or goes through them."""
    acc = np.array([0.9, 0.55, 0.4, 0.34, 0.33, 0.28])
    curve = np.polyval(np.polyfit(LAYERS, acc, degree), LAYERS)
    profile = Profile.from_acc(acc, fit)
    np.testing.assert_allclose(profile.curve, curve, rtol=1e-6)
    np.testing.assert_allclose(profile.acc, acc)


def test_exponential_fit_is_least_squares_in_acc_itself():
    """Fails where only the logarithms are fitted: then moving a and b could lower the error."""
    acc = np.array([0.9, 0.3, 0.35, 0.1, 0.02, 0.05])
    curve = np.array(Profile.from_acc(acc, "exponential").curve)
    log_a, slope = np.polyfit(LAYERS, np.log(curve), 1)[::-1]
    least = np.sum((curve - acc) ** 2)
    for da, db in [(1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2)]:
        other = np.exp(log_a + da + (slope + db) * LAYERS)
        assert np.sum((other - acc) ** 2) > least


def test_quadratic_is_the_default_fit():
    acc = [0.9, 0.5, 0.4, 0.35, 0.34, 0.2]
    assert Profile.from_acc(acc) == Profile.from_acc(acc, "quadratic")


@hypothesis.given(st.lists(st.floats(1e-3, 1.5), min_size=1, max_size=12), st.sampled_from(FITS))
@hypothesis.example([0.7, 0.7, 0.7, 0.7], "exponential")  # no spread to estimate a variance from
@hypothesis.example([0.5, 0.4], "exponential")  # as many unknowns as values
@hypothesis.example([0.9, 0.3, 0.05, 0.01, 0.01], "linear")  # the line dips under zero
def test_any_measured_acc_gives_a_usable_profile(acc, fit):
    """One layer, equal values, a curve that dips under zero: rates stay in (0, 1], no warning."""
    rates = np.array(Profile.from_acc(acc, fit).rates)
    assert len(rates) == len(acc)
    assert ((rates > 0) & (rates <= 1)).all()


@pytest.mark.parametrize(
    "profile", [Profile.constant(4), Profile.from_acc([0.9, 0.5, 0.123456789])]
)
def test_saved_profile_comes_back_equal(profile, tmp_path):
    profile.save(tmp_path / "profile.json")
    loaded = Profile.load(tmp_path / "profile.json")
    assert loaded == profile
    assert hash(loaded) == hash(profile)
    assert [p.name for p in tmp_path.iterdir()] == ["profile.json"]


def test_profile_is_hashable_whatever_sequence_it_is_made_of():
    """A plan, and so a compiled program, is looked up by it."""
    profiles = {Profile(rates) for rates in ([0.5, 1.0], (0.5, 1.0), np.array([0.5, 1.0]))}
    assert profiles == {Profile((0.5, 1.0))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Profile(()), "rates"),
        (lambda: Profile((0.5, 0.0)), "rates.*greater than 0"),
        (lambda: Profile((0.5, -1.0)), "rates.*greater than 0"),
        (lambda: Profile((0.5, 1.01)), "rates.*at most 1"),
        (lambda: Profile((0.5, float("nan"))), "rates"),
        (lambda: Profile(((0.5, 0.5),)), "rates.*one per layer"),
        (lambda: Profile((0.5, 0.5), acc=(0.5,)), "acc.*one value per layer"),
        (lambda: Profile((0.5, 0.5), curve=(0.5, 0.4, 0.3)), "curve.*one value per layer"),
        (lambda: Profile((0.5, 0.5), exponents=(1.0,)), "exponents.*one value per layer"),
        (lambda: Profile((0.5, 0.5), exponents=(1.0, -0.1)), "exponents.*at least 0"),
        (lambda: Profile((0.5,), min_tokens=0), "min_tokens must be an integer of at least 1"),
        (lambda: Profile((0.5,), min_tokens=2.0), "min_tokens must be an integer of at least 1"),
        (lambda: Profile(("0.5", "0.4")), "rates must be numbers"),
        (lambda: Profile((True, True)), "rates must be numbers"),
        (lambda: Profile((1, 10**400)), "rates must be numbers"),
        (lambda: Profile.constant(0), "num_layers must be an integer of at least 1; it is 0"),
        (lambda: Profile.constant("3"), "num_layers must be an integer.*'3'"),
        (lambda: Profile.falling(True), "num_layers must be an integer.*True"),
        (lambda: Profile.at_layers(3, [0]), "layers must lie in 1..3; 0 does not"),
        (lambda: Profile.at_layers(3, [2, 4]), "layers must lie in 1..3; 4 does not"),
        (lambda: Profile.at_layers(3, ["2"]), "layers must lie in 1..3; '2' does not"),
        (lambda: Profile.at_layers(3, 2), "layers must be a list of layers, from 1; it is 2"),
        (lambda: Profile.from_acc([]), "acc"),
        (lambda: Profile.from_acc([0.5, 0.0]), "acc.*greater than 0"),
        (lambda: Profile.from_acc([0.5, float("inf")]), "acc"),
        (lambda: Profile.from_acc([0.5], fit="cubic"), "fit.*cubic"),
        (lambda: Profile.from_acc([0.5], fit=["linear"]), "fit.*linear"),
    ],
)
def test_impossible_profiles_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "text",
    [
        '{"rates": [0.5',
        '{"rates": ' + "[" * 100_000,
        '{"rates": [1' + "0" * 400 + "]}",
        "[0.5]",
        "{}",
        '{"rates": [0.5], "speed": 2}',
        '{"rates": [0.0]}',
        '{"rates": {"1": 0.5}}',
        '{"rates": null}',
    ],
)
def test_loading_what_is_no_profile_raises_value_error(text, tmp_path):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(ValueError, match=r"profile\.json.*(profile|rates)"):
        Profile.load(tmp_path / "profile.json")


def test_saved_profile_is_plain_json(tmp_path):
    Profile((0.5, 1.0)).save(tmp_path / "profile.json")
    assert json.loads((tmp_path / "profile.json").read_text())["rates"] == [0.5, 1.0]


def test_exponents_and_the_least_tokens_are_saved_with_the_profile(tmp_path):
    profile = Profile((0.5, 1.0), exponents=(2, 0.5), min_tokens=3)
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile
    assert latadj_jax.make_plan(profile, 0.81, 1000).rates == (0.81**2 * 0.5, 0.9)


def test_at_layers_alpha_is_the_share_that_each_of_them_keeps():
    """Fails where another layer removes anything, or the choice is lost in the file."""
    profile = Profile.at_layers(5, np.array([4, 2]))
    assert profile.layers == (2, 4)
    plan = latadj_jax.make_plan(Profile.from_dict(profile.to_dict()), 0.5, 64)
    assert plan.counts == (64, 32, 32, 16, 16)
    assert hash(profile) == hash(Profile.at_layers(5, [2, 4]))


@pytest.mark.parametrize("num_layers", [1, 2, 3, 6, 12, 24])
def test_falling_removes_ever_more_and_all_but_cls_in_the_last_layer(num_layers):
    profile = Profile.falling(num_layers)
    assert profile.num_layers == num_layers
    assert list(profile.rates) == sorted(profile.rates, reverse=True)
    assert num_layers == 1 or profile.rates[0] == 1
    plan = latadj_jax.make_plan(profile, 4.0, 2048)
    assert plan.counts[-1] == 1
    np.testing.assert_array_equal(plan.table, plan.for_head().table)
    speedups = [
        latadj_jax.expected_speedup(latadj_jax.make_plan(profile, alpha, 128))
        for alpha in (1.2, 1.0, 0.8)
    ]
    assert speedups == sorted(speedups)


def test_falling_leaves_as_much_at_the_same_depth_whatever_the_number_of_layers():
    of_6, of_24 = (np.cumprod(Profile.falling(n).rates) for n in (6, 24))
    assert of_24[19] == pytest.approx(of_6[4], abs=0.05)
