"""Layers that a plan skips: counts, work and alphas."""

from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tiny

from latadj_jax import Plan, Profile, expected_speedup, layer_macs, make_plan, solve_alpha
from latadj_jax.elimination.depth import every_other

layers = st.integers(2, 8)
alphas = st.floats(0.05, 2.0)
lengths = st.integers(1, 100)


@st.composite
def paths(draw) -> Profile:
    """Any rates, exponents and layers to skip."""
    size = draw(layers)
    rates = draw(st.lists(st.floats(0.05, 1.0), min_size=size, max_size=size))
    exponents = draw(st.lists(st.floats(0.0, 2.0), min_size=size, max_size=size))
    below = draw(st.lists(st.floats(0.0, 1.5), min_size=size - 1, max_size=size - 1))
    return Profile(tuple(rates), exponents=tuple(exponents), skip_at=(0.0, *below))


def test_what_a_skipped_layer_would_remove_goes_one_layer_earlier():
    profile = Profile((0.9, 0.8, 0.7, 0.5), skip_at=(0, 0, 0.99, 0))
    assert make_plan(profile, 1.0, 20).counts == (18, 14, 9, 4)
    plan = make_plan(profile, 0.99, 20, strategy="score")
    all_run = make_plan(Profile(profile.rates), 0.99, 20)
    assert all_run.counts == (17, 13, 9, 4)
    assert plan.counts == (17, 9, 9, 4)
    assert (plan.skipped, plan.runs) == ((3,), (True, True, False, True))
    assert [cut is not None for cut in plan.cuts(np.array([20]))] == [True, True, False, True]
    # 20/4 + 3 * 17/4 + 17/4 + 3 * 9/4 + 9/4 + 3 * 4/4
    assert expected_speedup(plan) == pytest.approx(4 * 20 / (5 + 12.75 + 4.25 + 6.75 + 2.25 + 3))


def test_the_last_layer_that_runs_is_the_one_that_a_head_reads():
    plan = make_plan(Profile.constant(3), 0.9, 10)
    profile = Profile((1.0, 1.0, 1.0), skip_at=(0, 0, 0.9))
    assert plan.for_head().counts == (9, 8, 1)
    assert make_plan(profile, 0.9, 10).for_head().counts == (9, 1, 1)


def test_skipping_alone_removes_and_merges_nothing():
    profile = Profile((1.0, 1.0, 1.0), exponents=(0, 0, 0), skip_at=(0, 0.5, 0.5))
    plan = make_plan(profile, 0.5, 10, strategy="merge")
    assert plan.counts == (10, 10, 10)
    assert not plan.is_dense
    assert not plan.merges
    assert plan.cuts(np.array([10])) == (None, None, None)
    assert expected_speedup(plan) == 3
    assert make_plan(profile, 0.51, 10).is_dense
    assert make_plan(profile, None, 10).is_dense


@hypothesis.given(paths(), alphas, alphas, lengths)
def test_a_path_is_monotone(profile, alpha, other, length):
    """Fails where a layer that is skipped at a smaller alpha leaves more than when it ran."""
    low, high = sorted((alpha, other))
    slow, fast = (make_plan(profile, a, length) for a in (high, low))
    assert make_plan(profile, None, length).is_dense
    assert (slow.table >= fast.table).all()
    assert set(slow.skipped) <= set(fast.skipped)
    assert expected_speedup(slow) <= expected_speedup(fast) * (1 + 1e-12)
    every = np.arange(length + 1)[:, None]
    counts = np.concatenate([every, fast.table], axis=1)
    assert (np.diff(counts, axis=1) <= 0).all()
    assert (np.diff(fast.table, axis=0) >= 0).all()


@hypothesis.given(paths(), st.floats(1.0, 3.0))
def test_the_alpha_of_a_speedup_reaches_it_and_is_the_largest(profile, speedup):
    fastest = expected_speedup(make_plan(profile, 1e-6, 40))
    if speedup > fastest:
        with pytest.raises(ValueError, match="out of reach"):
            solve_alpha(profile, 40, speedup)
        return
    alpha = solve_alpha(profile, 40, speedup)
    assert expected_speedup(make_plan(profile, alpha, 40)) >= speedup
    if expected_speedup(make_plan(profile, 1e9, 40)) < speedup:  # not at any alpha
        assert expected_speedup(make_plan(profile, alpha * (1 + 1e-9), 40)) < speedup


def test_a_skipped_layer_multiplies_nothing():
    model = tiny.make_model("bert", "classification")
    profile = Profile((1.0, 1.0, 1.0), exponents=(0, 0, 0), skip_at=(0, 0.5, 0))
    of_all, of_some = (layer_macs(model, make_plan(profile, a, 16)) for a in (None, 0.5))
    assert of_some == (of_all[0], 0, of_all[2])


def test_a_profile_is_saved_with_what_it_skips(tmp_path):
    profile = Profile((1.0, 0.5), exponents=(0, 1), skip_at=(0, 0.7))
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile
    assert Profile((1.0, 0.5)).skip_at == (0.0, 0.0)


@pytest.mark.parametrize(
    ("skip_at", "sentence"),
    [
        ((0.5, 0.0), "skip_at must be 0 for the first layer, which always runs"),
        ((0.0,), r"skip_at must have one value per layer \(2\)"),
        ((0.0, -1.0), "skip_at must be at least 0"),
        ((0.0, float("nan")), "skip_at must be at least 0"),
        ("ab", "skip_at must be numbers, one per layer"),
    ],
)
def test_bad_layers_to_skip_are_one_sentence(skip_at, sentence):
    with pytest.raises(ValueError, match=sentence):
        Profile((1.0, 1.0), skip_at=skip_at)


@pytest.mark.parametrize(
    "profile", [Profile.constant(12), Profile.falling(6), Profile.falling(6, True)]
)
def test_a_path_of_no_depth_is_the_profile(profile):
    assert profile.path(0) == profile


@pytest.mark.parametrize("size", [2, 6, 12])
def test_a_path_of_full_depth_skips_layers_alone(size):
    """At the alpha of a speedup that whole layers can give, they give it."""
    profile = Profile.constant(size).path(1.0)
    assert (profile.rates, profile.exponents) == ((1.0,) * size, (0.0,) * size)
    for left in range(1, size):
        plan = make_plan(profile, solve_alpha(profile, 64, size / left), 64)
        assert plan.skipped == tuple(sorted(every_other(size)[: size - left]))
        assert plan.counts == (64,) * size


@pytest.mark.parametrize("depth", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("base", [Profile.constant(12), Profile.falling(12)])
def test_a_path_shares_a_speedup_between_layers_and_word_vectors(base, depth):
    profile = base.path(depth)
    for speedup in (1.5, 2.0, 3.0):
        plan = make_plan(profile, solve_alpha(profile, 400, speedup), 400)
        by_layers = 12 / sum(plan.runs)
        assert abs(12 / by_layers - 12 / speedup**depth) < 1.5  # layers
        assert plan.counts[0] < 400 or base.rates[0] == 1
        assert plan.counts[9] < 400


@pytest.mark.parametrize(
    ("size", "order"),
    [(1, ()), (2, (2,)), (3, (2, 3)), (6, (2, 4, 3, 5, 6)), (7, (2, 4, 6, 3, 5, 7))],
)
def test_the_last_layer_is_skipped_last(size, order):
    assert every_other(size) == order


def test_the_order_of_a_path_says_which_layers_go_first():
    profile = Profile.constant(4).path(0.5, (3, 2))
    assert profile.skip_at[2] > profile.skip_at[1] > 0
    assert profile.skip_at[0] == profile.skip_at[3] == 0


@pytest.mark.parametrize(
    ("depth", "order", "sentence"),
    [
        (1.5, (), r"depth must be a number in \[0, 1\]; it is 1.5"),
        ("all", (), r"depth must be a number in \[0, 1\]"),
        (0.5, (1,), r"order must be layers in 2\.\.4; it is \(1,\)"),
        (0.5, (5,), r"order must be layers in 2\.\.4"),
        (0.5, (3, 3), r"order names a layer twice: \(3, 3\)"),
        (0.5, (2.5,), r"order must be layers in 2\.\.4"),
        (0.5, 3, r"order must be layers in 2\.\.4; it is 3"),
    ],
)
def test_a_bad_path_is_one_sentence(depth, order, sentence):
    with pytest.raises(ValueError, match=sentence):
        Profile.constant(4).path(depth, order)


@pytest.mark.parametrize("depth", [0.01, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("size", [6, 12])
def test_layers_that_always_leave_cls_alone_are_no_speedup_of_a_path(depth, size):
    """Fails where the last rate of a falling profile counts: layers would go at any alpha."""
    profile = Profile.falling(size).path(depth)
    assert max(profile.skip_at) < 3
    dense = make_plan(Profile.constant(size), None, 64)
    assert make_plan(profile, 5.0, 64).for_head() == dense.for_head()
    assert profile.rates[-1] == Profile.falling(size).rates[-1]


def test_a_path_has_no_path():
    profile = Profile.constant(4).path(0.5)
    assert profile.path(0) == profile
    with pytest.raises(ValueError, match="skips layers already"):
        profile.path(0.5)


def test_an_alpha_as_it_is_printed_or_in_float32_skips_what_it_was_chosen_for():
    profile = Profile.constant(6).path(1.0)
    alpha = solve_alpha(profile, 64, 2.0)
    assert len(make_plan(profile, alpha, 64).skipped) == 3
    for same in (float(f"{alpha:g}"), float(np.float32(f"{alpha:g}")), float(f"{alpha:.4f}")):
        assert make_plan(profile, same, 64).skipped == make_plan(profile, alpha, 64).skipped


@pytest.mark.parametrize("skipped", [(1,), (4,), (0,)])
def test_a_plan_skips_no_layer_that_is_not_there(skipped):
    with pytest.raises(ValueError, match=r"skipped must lie in 2\.\.3"):
        Plan(8, (1.0, 1.0, 1.0), skipped=skipped)


def test_the_page_of_this_prints_what_it_says(capsys):
    page = (Path(__file__).parents[2] / "docs" / "depth.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    exec(compile(block, "docs/depth.md", "exec"), {})
    said = [line.split("  # ")[1] for line in block.split("\n") if line.startswith("print(")]
    assert capsys.readouterr().out.split("\n")[:-1] == said
    assert len(said) == 2
