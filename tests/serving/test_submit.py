"""Requests that are submitted: with deadlines, refused, dropped, cancelled, at the end."""

import threading
import time

import numpy as np
import pytest
from tiny_engine import ALPHAS, BUCKETS, TEXTS, make
from tolerance import SAME

import latadj_jax
from latadj_jax.errors import NoRoomError, Overloaded, TooLate
from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.memory_maps import check_room
from latadj_jax.serving.policy import Policy


class Gate:
    """Programs that wait until they may run: what comes meanwhile has to wait, too."""

    def __init__(self, engine, monkeypatch):
        self.open, self.running, self.shapes = threading.Event(), threading.Event(), []
        run = engine._programs.run

        def gated(shape, examples):
            self.shapes.append(shape)
            self.running.set()
            assert self.open.wait(30)
            return run(shape, examples)

        monkeypatch.setattr(engine._programs, "run", gated)


SETTINGS = {"alphas": ALPHAS, "batch_sizes": (1, 4), "max_wait_ms": 0}


@pytest.fixture(scope="module")
def compiled(parts):
    return make(parts, **SETTINGS).warmup(repeats=1)._programs._compiled


@pytest.fixture
def started(parts, compiled):
    """An engine with the times of a machine slower than any: 1000 s dense, 500 s and 200 s for a
    text. So no test depends on how long its own steps take."""
    with make(parts, **SETTINGS) as engine:
        engine._programs._compiled.update(compiled)
        engine.warmup(repeats=1)
        live = engine._submissions.live
        for shape in engine.latencies:
            ms = {None: 1e6, 0.9: 5e5, 0.6: 2e5}[shape.alpha]
            ms *= {1: 1, 4: 3}[shape.batch_size]
            live.add(shape, Latency(ms, ms))
        yield engine


def test_a_reply_says_how_it_was_served(started):
    text = TEXTS[2]
    reply = started.submit(text, latency_ms=60_000_000)
    np.testing.assert_allclose(reply.result(30), started([text], alpha=None)[0], **SAME)
    assert (reply.served.alpha, reply.served.speedup, reply.served.late_ms) == (None, 1.0, 0.0)
    assert 0 <= reply.served.waited_ms < 30_000
    assert 0 < reply.served.ran_ms < 30_000
    reply = started.submit(text, alpha=0.6, latency_ms=60_000_000)
    np.testing.assert_allclose(reply.result(30), started([text], alpha=0.6)[0], **SAME)
    plan = started.model.plan(0.6, 18)  # tokens
    assert reply.served.speedup == pytest.approx(latadj_jax.expected_speedup(plan))
    assert started.submit(text, speedup=1.0).result(30).shape == (3,)


@pytest.mark.parametrize(("latency_ms", "alpha"), [(1.5e6, None), (7e5, 0.9), (3e5, 0.6)])
def test_a_deadline_takes_the_slowest_alpha_that_meets_it(started, latency_ms, alpha):
    reply = started.submit(TEXTS[2], latency_ms=latency_ms)
    reply.result(30)
    assert reply.served.alpha == alpha


def test_what_no_alpha_can_do_is_a_value_error_and_overload_is_another(started, monkeypatch):
    with pytest.raises(
        ValueError, match=r"100000 ms are not enough: .* take 200000\.0 ms at alpha"
    ):
        started.submit("good", latency_ms=100_000)
    gate = Gate(started, monkeypatch)
    first = started.submit("good", latency_ms=1.5e6)
    assert gate.running.wait(30)
    with pytest.raises(Overloaded, match="too much to do") as refused:
        started.submit("bad", latency_ms=3e5)  # the first takes 1000 s
    assert 0 < refused.value.retry_after_s < 2000
    gate.open.set()
    assert first.result(30).shape == (3,)


def test_what_is_too_late_at_its_turn_is_not_computed(started, monkeypatch):
    """As if the batch before it had taken longer than was expected."""
    gate = Gate(started, monkeypatch)
    first = started.submit("good", alpha=0.6)
    assert gate.running.wait(30)
    second = started.submit("bad", latency_ms=7e5, alpha=0.6)
    controller = started._submissions._controller
    monkeypatch.setattr(controller, "_least_ms", lambda *_: 1e6)
    gate.open.set()
    with pytest.raises(TooLate, match="could not be met any more"):
        second.result(30)
    assert first.result(30).shape == (3,)
    assert len(gate.shapes) == 1


def test_what_a_batch_takes_counts_the_answers_of_the_one_before_it(started, monkeypatch):
    """Fails where only its program counts: whoever waits behind it waits for the answers, too."""
    seen_ms, live = [], started._submissions.live
    observe = live.observe
    monkeypatch.setattr(
        live, "observe", lambda shape, ms, now_s: (seen_ms.append(ms), observe(shape, ms, now_s))
    )
    gate = Gate(started, monkeypatch)
    first, second = started.submit("good", alpha=0.6), started.submit("bad", alpha=None)
    first.add_done_callback(lambda _: time.sleep(0.3))
    gate.open.set()
    second.result(30)
    assert len(seen_ms) == 2
    assert seen_ms[1] > 300


def test_a_late_answer_says_so(started, monkeypatch):
    for shape in started.latencies:
        started._submissions.live.add(shape, Latency(1, 1))
    gate = Gate(started, monkeypatch)
    reply = started.submit("good", latency_ms=1000)
    assert gate.running.wait(30)
    time.sleep(1.1)
    gate.open.set()
    reply.result(30)
    assert reply.served.late_ms > 50


def test_a_cancelled_request_is_not_computed(started, monkeypatch):
    gate = Gate(started, monkeypatch)
    first = started.submit("good")
    assert gate.running.wait(30)
    others = [started.submit("bad") for _ in range(5)]
    assert others[1].cancel()
    assert started.waiting == (4, 12)  # it makes room at once
    gate.open.set()
    others.pop(1)
    assert all(reply.result(30).shape == (3,) for reply in [first, *others])
    assert started.waiting == (0, 0)
    assert [shape.batch_size for shape in gate.shapes] == [1, 4]


def test_a_cancelled_request_leaves_its_place_in_a_full_queue(parts, compiled, monkeypatch):
    with make(parts, **SETTINGS, policy=Policy(max_waiting=2)) as engine:
        engine._programs._compiled.update(compiled)
        gate = Gate(engine.warmup(repeats=1), monkeypatch)
        first = engine.submit("good")
        assert gate.running.wait(30)
        others = [engine.submit("bad") for _ in range(2)]
        with pytest.raises(Overloaded, match="queue is full"):
            engine.submit("bad")
        assert others[0].cancel()
        others.append(engine.submit("bad"))
        gate.open.set()
        assert all(reply.result(30).shape == (3,) for reply in [first, *others[1:]])


def test_closing_answers_what_waits(started, monkeypatch):
    gate = Gate(started, monkeypatch)
    replies = [started.submit(text, alpha=0.9) for text in TEXTS]
    threading.Timer(0.1, gate.open.set).start()
    started.close()
    assert all(reply.done() for reply in replies)
    np.testing.assert_allclose([reply.result() for reply in replies], started(TEXTS), **SAME)
    with pytest.raises(RuntimeError, match="closed"):
        started.submit("good")


def test_a_batch_that_fails_fails_alone(started, monkeypatch):
    run, failing = started._programs.run, [True]

    def fails_once(shape, examples):
        if failing.pop():
            raise OSError("no memory")
        return run(shape, examples)

    failing.insert(0, False)
    monkeypatch.setattr(started._programs, "run", fails_once)
    with pytest.raises(OSError, match="no memory"):
        started.submit("good").result(30)
    assert started.submit("good").result(30).shape == (3,)


def test_nobody_waits_for_ever_where_the_controller_or_who_watches_fails(started, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("a mistake")

    started.watch(fails)
    assert started.submit("good").result(30).shape == (3,)
    with monkeypatch.context() as broken:
        broken.setattr(started._submissions._controller, "take", fails)
        with pytest.raises(ZeroDivisionError):
            started.submit("good").result(30)
    assert started.submit("good").result(30).shape == (3,)


def test_who_watches_is_told_of_each_batch(started, monkeypatch):
    told = []
    started.watch(lambda batch, ran_ms: told.append((batch.shape, len(batch.requests), ran_ms)))
    gate = Gate(started, monkeypatch)
    replies = [started.submit("good", alpha=0.6)]
    assert gate.running.wait(30)
    replies += [started.submit("good", alpha=0.6) for _ in range(4)]
    gate.open.set()
    assert all(reply.result(30).shape == (3,) for reply in replies)
    started.close()
    assert (told[0][0].batch_size, told[0][1]) == (1, 1)
    assert sum(number for _, number, _ in told) == 5


def test_several_texts_are_taken_together_or_not_at_all(started, monkeypatch):
    gate = Gate(started, monkeypatch)
    first = started.submit("good", alpha=0.6)
    assert gate.running.wait(30)
    examples = started._encoded(["good", "bad"], None)
    with pytest.raises(Overloaded):
        started.submit_encoded(examples, latency_ms=4.5e5)  # 200 s for each, after 200 s
    assert started.waiting == (0, 0)
    replies = started.submit_encoded(examples, latency_ms=3e7)
    gate.open.set()
    assert len([reply.result(30) for reply in [first, *replies]]) == 3
    assert started.submit_encoded([]) == []


def test_an_engine_takes_texts_while_it_compiles(parts, tmp_path):
    """After a few programs, of the largest bucket; fails where it waits for all of them, or where
    programs that are not there yet are chosen."""
    file, served = tmp_path / "latencies.json", []
    settings = {**SETTINGS, "buckets": BUCKETS, "latency_file": file}
    with make(parts, **settings) as engine:
        with pytest.raises(RuntimeError, match="warmup"):
            engine.submit("good")

        def on_program(done, of):
            assert of == 12
            if done >= len(ALPHAS):
                assert engine.submit("good", latency_ms=60_000).result(30).shape == (3,)
                served.append({shape.length for shape in engine._programs.shapes})

        engine.warmup_in_turn(on_program, repeats=1)
        assert served[0] == {24}
        assert served[-1] == {8, 24}
        assert engine.submit("good", latency_ms=60_000).result(30).shape == (3,)
        assert engine(["good"]).shape == (1, 3)
    again = make(parts, **settings).warmup(repeats=1)
    assert again.latencies == engine.latencies


def test_without_room_for_all_programs_it_serves_with_those_it_has(parts, monkeypatch, caplog):
    """Fails where the process goes on until LLVM ends it, or where nothing is served then."""
    room, told = 5, []

    def check_room(programs):
        if programs == room:
            raise NoRoomError("no room")

    monkeypatch.setattr("latadj_jax.serving.programs.check_room", check_room)
    with make(parts, **{**SETTINGS, "buckets": BUCKETS}) as engine:
        engine.warmup_in_turn(lambda done, of: told.append((done, of)), repeats=1)
        assert told[-1] == (room, room)
        assert "It serves with what is compiled: no room" in caplog.text
        assert engine.submit("good", latency_ms=60_000).result(30).shape == (3,)
    room = len(ALPHAS) - 1  # an alpha would have no program: it would never be ready
    with make(parts, **SETTINGS) as engine, pytest.raises(NoRoomError):
        engine.warmup_in_turn(repeats=1)


def test_memory_maps_are_counted_before_they_run_out(monkeypatch, tmp_path):
    check_room(0)
    monkeypatch.setattr("latadj_jax.serving.memory_maps.MOST", tmp_path / "most")
    check_room(0)  # nothing is counted here
    (tmp_path / "most").write_text("4096\n")
    with pytest.raises(NoRoomError, match=r"beside 9 others.* of the 4096 memory maps"):
        check_room(9)


@pytest.mark.parametrize(
    ("policy", "alpha"),
    [({"min_alpha": 0.9}, 0.9), ({"min_alpha": 0.91}, None), ({"max_speedup": 1.0}, None)],
)
def test_quality_has_a_floor(parts, policy, alpha):
    """The fastest that may be chosen."""
    engine = make(parts, alphas=ALPHAS, policy=Policy(**policy))
    assert engine._submissions._controller.alphas[-1] == alpha


def test_a_floor_may_be_an_expected_speedup_at_the_largest_bucket(parts):
    most = latadj_jax.expected_speedup(parts[0].plan(0.9, 24))
    for given, alpha in ((most, 0.9), (most - 0.01, None)):
        engine = make(parts, alphas=ALPHAS, policy=Policy(max_speedup=given))
        assert engine._submissions._controller.alphas[-1] == alpha


def test_a_floor_is_for_what_is_chosen_not_for_what_is_given(parts, compiled):
    with make(parts, **SETTINGS, policy=Policy(min_alpha=0.9)) as engine:
        engine._programs._compiled.update(compiled)
        reply = engine.warmup(repeats=1).submit("good", alpha=0.6)
        assert reply.result(30).shape == (3,)
        assert reply.served.alpha == 0.6


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"min_alpha": 2.0, "alphas": (0.9,)}, "min_alpha 2 leaves none of the engine's alphas"),
        ({"min_alpha": 0.5, "max_speedup": 2.0}, "exclude each other"),
        ({"min_alpha": 0}, "alpha must be finite"),
        ({"max_speedup": 0.5}, "max_speedup must be a number of at least 1; it is 0.5"),
        ({"max_waiting": 0}, "max_waiting must be an integer of at least 1"),
    ],
)
def test_bad_policies_get_one_sentence(parts, policy, message):
    alphas = policy.pop("alphas", ALPHAS)
    with pytest.raises(ValueError, match=message):
        make(parts, alphas=alphas, policy=Policy(**policy))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"latency_ms": -1}, "latency_ms must be a number greater than 0"),
        ({"latency_ms": True}, "latency_ms must be a number"),
        ({"latency_ms": 50, "alpha": 0.9, "speedup": 2}, "exclude each other"),
        ({"latency_ms": 50, "alpha": 0.5}, "alpha 0.5 was not compiled"),
    ],
)
def test_bad_requests_get_one_sentence(started, asked, message):
    with pytest.raises(ValueError, match=message):
        started.submit("good", **asked)
