"""What the controller takes next, at which alpha, and what it refuses; with a clock of its own."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import ALPHAS, controller, poisson, request, simulate, true_ms

from latadj_jax.errors import Overloaded
from latadj_jax.serving.programs import Shape

WITHIN_MS = 60  # fifteen texts of 32 tokens one by one, dense


def filled(*requests, **policy):
    one = controller(**policy)
    one.admit(requests, 0.0)
    return one


# ---- one batch --------------------------------------------------------------------------------


def test_it_runs_dense_when_idle():
    batch = filled(request(within_ms=WITHIN_MS)).take(0.0)
    assert batch.shape == Shape(16, 1, None)


@pytest.mark.parametrize(
    ("texts", "alpha"), [(8, None), (16, 0.9), (24, 0.8), (33, 0.7)], ids=lambda value: str(value)
)
def test_it_takes_the_slowest_alpha_with_which_all_that_waits_is_in_time(texts, alpha):
    """3.2 ms each in batches of 8; 0.9 of 60 ms are 54."""
    one = filled(*(request(32, within_ms=WITHIN_MS) for _ in range(texts)))
    batch = one.take(0.0)
    assert (batch.shape.alpha, len(batch.requests)) == (alpha, 8)


def test_what_ends_too_late_even_at_the_fastest_is_refused_at_once():
    one = filled(*(request(32, within_ms=WITHIN_MS) for _ in range(48)))
    with pytest.raises(Overloaded, match=r"would take \d+ ms too long; try again") as refused:
        one.admit([request(32, within_ms=WITHIN_MS)] * 16, 0.0)
    assert 0 < refused.value.retry_after_s < 0.1
    assert len(one.waiting) == 48


def test_a_running_batch_counts():
    one = filled(request(32, within_ms=10))
    one.take(0.0)
    with pytest.raises(Overloaded):
        one.admit([request(32, 0.001, within_ms=4)], 0.001)  # 1.3 ms after 3.4
    one.admit([request(32, 0.001, within_ms=6)], 0.001)


def test_who_is_admitted_is_not_pushed_back_by_who_comes_later():
    """A more urgent one would go first and make the others late: it is refused."""
    one = filled(*(request(32, within_ms=WITHIN_MS) for _ in range(48)))
    with pytest.raises(Overloaded):
        one.admit([request(32, within_ms=20)] * 8, 0.0)


def test_the_earliest_deadline_goes_first():
    late, early = request(32, within_ms=500), request(16, 0.01, within_ms=100)
    one = filled(late)
    one.admit([early], 0.01)
    assert one.take(0.01).requests == (early,)
    assert one.take(0.02).requests == (late,)


def test_what_has_no_deadline_takes_its_turn_too():
    """Fails where it waits as long as there is anything with a deadline."""
    patient = request(16)
    one = filled(patient, patience_s=10.0)
    one.admit([request(32, 9.99, within_ms=60)], 9.99)
    assert one.take(10.0).requests[0] is patient


@pytest.mark.parametrize(
    ("texts", "fills", "learns"),
    [(8, True, True), (8, False, True), (7, True, True), (7, False, False)],
)
def test_a_batch_that_is_not_full_tells_of_a_full_one_where_it_is_filled(texts, fills, learns):
    """Fails where the time of seven texts is taken for that of eight."""
    one = filled(*(request(alpha=0.7) for _ in range(texts)))
    one.fills, batch = fills, one.take(0.0)
    assert (batch.shape.batch_size, len(batch.requests)) == (8, texts)
    before_ms = one.live.typical_ms(batch.shape, 0.0)
    one.finished(batch, 2 * before_ms, 0.0)
    assert (one.live.typical_ms(batch.shape, 0.0) > before_ms) is learns


def test_short_texts_are_not_padded_to_long_ones_but_fill_free_rows():
    """Seven of 32 tokens run as eight, where a row is free; the other short ones do not join."""
    long = [request(32, within_ms=400) for _ in range(7)]
    short = [request(16, 0.001, within_ms=400) for _ in range(12)]
    batch = filled(*long, *short).take(0.0)
    assert batch.shape == Shape(32, 8, None)
    assert batch.requests == (*long, short[0])


def test_a_batch_is_larger_for_the_texts_that_fill_it():
    """Six long ones take 24 ms one by one and 25.6 as eight; with two short ones it is 28."""
    long = [request(32, within_ms=400) for _ in range(6)]
    short = [request(16, 0.001, within_ms=400) for _ in range(2)]
    assert filled(*long).take(0.0).shape == Shape(32, 1, None)
    batch = filled(*long, *short).take(0.0)
    assert (batch.shape, batch.requests) == (Shape(32, 8, None), (*long, *short))


def test_a_batch_takes_at_most_half_of_what_its_requests_have():
    """32 of 16 tokens take 53 ms: who came while they ran would have to wait too long."""
    one = filled(*(request(16, within_ms=80) for _ in range(32)))
    assert one.take(0.0).shape == Shape(16, 8, None)
    one = filled(*(request(16, within_ms=400) for _ in range(32)))
    assert one.take(0.0).shape == Shape(16, 32, None)


def test_given_alphas_are_kept_and_share_batches_with_their_like_alone():
    mine = [request(32, within_ms=400, alpha=0.7) for _ in range(4)]
    others = [request(32, 0.001, within_ms=400) for _ in range(4)]
    one = filled(*mine, *others)
    batch = one.take(0.0)
    assert (batch.shape.alpha, {*batch.requests} <= {*mine}) == (0.7, True)
    while one.waiting:
        batch = one.take(0.01)
    assert (batch.shape.alpha, {*batch.requests} <= {*others}) == (None, True)


def test_free_rows_are_filled_with_who_would_have_the_same_alpha_anyway():
    """A dense batch takes along who asked for dense, and who may choose; another one nobody who may
    choose, though its rows are free."""
    choosing = [request(32, within_ms=400) for _ in range(7)]
    dense, faster = request(32, 0.001, 400, alpha=None), request(32, 0.001, 400, alpha=0.7)
    batch = filled(*choosing, faster, dense).take(0.0)
    assert (batch.shape.alpha, batch.requests) == (None, (*choosing, dense))
    given = [request(32, within_ms=400, alpha=None) for _ in range(7)]
    batch = filled(*given, faster, request(16, 0.001, 400)).take(0.0)
    assert (batch.shape.alpha, len(batch.requests)) == (None, 8)
    given = [request(32, within_ms=400, alpha=0.7) for _ in range(7)]
    batch = filled(*given, dense, request(32, 0.001, 400)).take(0.0)
    assert (batch.shape.alpha, batch.requests) == (0.7, tuple(given))


def test_what_cannot_be_in_time_any_more_is_taken_out():
    gone, kept = request(32, within_ms=10), request(32, within_ms=50)
    one = filled(gone, kept)
    assert one.drop_late(0.008) == []
    assert one.drop_late(0.009) == [gone]  # 1.3 ms at the fastest
    assert one.waiting == [kept]


def test_the_queue_is_bounded_in_requests_and_tokens():
    with pytest.raises(Overloaded, match=r"queue is full: 3 texts wait, 2 more .* over its 4"):
        filled(*(request() for _ in range(3)), max_waiting=4).admit([request()] * 2, 0.0)
    with pytest.raises(Overloaded, match=r"96 tokens wait, 32 more would be over its 100") as full:
        filled(*(request(32) for _ in range(3)), max_waiting_tokens=100).admit([request(32)], 0.0)
    assert full.value.retry_after_s > 0


def test_slower_again_only_after_a_while():
    """A burst needs 0.8; what comes right after it could run dense, and does so later."""
    one = filled(*(request(32, within_ms=WITHIN_MS) for _ in range(24)), calm_s=0.2)
    while one.waiting:
        needed = one.take(0.0).shape.alpha
    assert needed == 0.8
    for now_s, alpha in ((0.1, 0.8), (0.19, 0.8), (0.21, None)):
        one.admit([request(32, now_s, within_ms=WITHIN_MS)], now_s)
        assert one.take(now_s).shape.alpha == alpha


def test_an_alpha_that_saves_nothing_is_not_taken():
    """It is late already, and 0.9 is as slow as dense: nothing is won by it."""
    one = controller(alphas=(None, 0.9))
    for shape in [shape for shape in one.live._median if shape.alpha == 0.9]:
        one.live._median[shape] = one.live._median[Shape(shape.length, shape.batch_size, None)]
    one.admit([request(32, within_ms=4.6)], 0.0)  # 4.4 of 4.6 ms
    assert one.take(0.0).shape.alpha is None


# ---- a whole afternoon ------------------------------------------------------------------------


def noisy(seed=0, slower=lambda now_s: 1.0):
    rng = np.random.default_rng(seed)
    return lambda shape, now_s: slower(now_s) * true_ms(shape) * float(np.exp(rng.normal(0, 0.06)))


@pytest.mark.parametrize(
    ("load", "attained", "refusing_dense", "speedup"),
    [(0.5, 1.0, 1.0, 1.05), (1.0, 0.99, 0.95, 1.7), (1.5, 0.99, 0.75, 2.2), (2.0, 0.99, 0.6, 2.7),
     (2.5, 0.99, 0.5, 3.0), (3.0, 0.95, 0.42, 3.0)],
)  # fmt: skip
def test_alpha_is_the_relief_valve(load, attained, refusing_dense, speedup):
    """Deadlines attained at so many times what dense can serve, beside dense with refusal; and the
    mean speedup is no higher than it has to be."""
    asked = dict(number=1200, within_ms=WITHIN_MS, seed=1)
    adaptive = simulate(controller(), poisson(load, **asked), noisy())
    dense = simulate(controller(alphas=(None,)), poisson(load, **asked), noisy())
    assert adaptive.number == dense.number == 1200
    assert adaptive.attained >= attained
    assert dense.attained <= refusing_dense
    assert adaptive.late <= 0.002
    assert adaptive.speedup <= speedup


def test_a_noisy_neighbour_costs_quality_before_it_costs_answers():
    """For two seconds everything takes twice as long; with times of warm-up most would be late."""
    slower = noisy(slower=lambda now_s: 2.0 if 1 < now_s < 3 else 1.0)
    outcome = simulate(controller(), poisson(0.8, 1500, within_ms=WITHIN_MS), slower)
    assert outcome.attained > 0.98
    assert outcome.late < 0.01


def test_it_does_not_flutter():
    outcome = simulate(controller(), poisson(1.5, 1200, within_ms=WITHIN_MS), noisy())
    alphas = list(outcome.alphas.values())
    changes = sum(a != b for a, b in itertools.pairwise(alphas))
    assert changes < len(alphas) / 25


def test_after_a_standstill_it_serves_again():
    """For a second everything takes 30 times as long, so that all is refused; then it recovers."""
    slower = noisy(slower=lambda now_s: 30.0 if 1 < now_s < 2 else 1.0)
    requests = poisson(0.1, 800, within_ms=5)
    outcome = simulate(controller(), requests, slower)
    assert requests[-1].arrived_s > 15
    later = [request for request in requests if request.arrived_s > 10]
    unserved = {*outcome.refused, *outcome.dropped} & {*later}
    assert len(unserved) < len(later) / 10


@given(st.data())
def test_nothing_is_lost(data):
    """Each request is answered, refused or dropped once, whatever comes; none before it came."""
    number = data.draw(st.integers(1, 40))
    arrivals_s = sorted(data.draw(st.lists(st.floats(0, 0.2), min_size=number, max_size=number)))
    requests = [
        request(
            data.draw(st.integers(1, 32)),
            arrived_s,
            within_ms=data.draw(st.sampled_from([5, 20, 80, np.inf])),
            alpha=data.draw(st.sampled_from(["any", *ALPHAS])),
        )
        for arrived_s in arrivals_s
    ]
    one = controller(max_waiting=data.draw(st.sampled_from([4, 1024])))
    outcome = simulate(one, requests, noisy(0))
    found = [*outcome.ends, *outcome.refused, *outcome.dropped]
    assert len(found) == number
    assert {*found} == {*requests}
    assert all(end_s > request.arrived_s for request, end_s in outcome.ends.items())
    given = {r: alpha for r, alpha in outcome.alphas.items() if not r.adaptive}
    assert all(alpha == r.alpha for r, alpha in given.items())
