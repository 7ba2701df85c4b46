"""Tokens that are never removed beside CLS: the input "protected", as far as the plan has room."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny
from tolerance import SAME

import latadj_jax
from latadj_jax import Profile, make_plan
from latadj_jax.model.dynamic_counts import simulate

ROOM = 5  # CLS and four others
MARKED = (3, 6, 8, 9, 11)  # one more than there is room for


def example(length: int, family: str = "bert", seed: int = 0, marked=MARKED):
    marks = np.isin(np.arange(length), marked).astype(np.int32)
    return {**tiny.example(length, seed, family), "protected": marks}


def make(family: str = "bert", task: str = "question-answering", **changes):
    model, params = tiny.make(family, task, num_hidden_layers=2)
    return model.replace(profile=Profile.constant(2), **{"protected": ROOM, **changes}), params


def batch_of(*examples, length=16, padding="right"):
    return tiny.padded(examples, padding, length)


def kept(model, params, batch, alpha=0.1) -> list[list[int]]:
    """Positions that are left, of each row."""
    out = latadj_jax.apply(model, params, batch, alpha)
    return [[p for p in row if p >= 0] for row in np.asarray(out.positions).tolist()]


@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_cls_and_the_first_that_are_marked_stay(family, strategy):
    """As many as there is room for; where fewer are marked, others stay by their score."""
    model, params = make(family, "features", strategy=strategy)
    few = example(12, family, 1, marked=(7,))
    batch, _ = batch_of(example(16, family), few)
    full, fewer = kept(model, params, batch)
    assert full == [0, *MARKED[: ROOM - 1]]
    assert len(fewer) == ROOM
    assert {0, 7} <= set(fewer)


def test_counts_are_static_and_never_under_the_protected_number():
    model, _ = make()
    for length in (3, 5, 9, 16):
        for alpha in (0.1, 0.5, 0.9):
            counts = model.plan(alpha, 16).table[length].tolist()
            assert counts == sorted(counts, reverse=True)
            assert counts[-1] >= min(length, ROOM)
    assert model.plan(0.1, 16) == make_plan(
        model.profile, 0.1, 16, strategy="score", protected=ROOM
    )


@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("padding", tiny.PADDINGS)
def test_output_does_not_depend_on_padding_or_companions(padding, strategy):
    model, params = make(strategy=strategy)
    examples = [example(14), example(9, seed=1)]
    batch, slots = batch_of(*examples, padding=padding, length=20)
    logits = latadj_jax.apply(model, params, batch, 0.4).logits
    for row, (alone, at) in enumerate(zip(examples, slots, strict=True)):
        one = latadj_jax.apply(model, params, {k: v[None] for k, v in alone.items()}, 0.4)
        np.testing.assert_allclose(logits[row][at], one.logits[0], **SAME)


@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_without_room_and_densely_marks_change_nothing(strategy):
    """Bit by bit: of a model that protects CLS alone, and of any dense pass."""
    batch, _ = batch_of(example(14), example(9, seed=1))
    plain = {key: value for key, value in batch.items() if key != "protected"}
    for alpha, protected in ((0.5, None), (0.5, 1), (None, ROOM)):
        model, params = make(strategy=strategy, protected=protected)
        outs = [
            latadj_jax.apply(model, params, b, alpha, return_scores=True) for b in (batch, plain)
        ]
        jax.tree.map(np.testing.assert_array_equal, *outs)


def test_a_plan_alone_makes_room():
    model, params = make(task="features", protected=None)
    batch, _ = batch_of(example(16))
    plan = model.plan(0.1, 16, protected=3)
    out = latadj_jax.apply(model, params, batch, plan=plan)
    assert out.positions[0].tolist() == [0, *MARKED[:2]]


def test_a_simulation_protects_the_same():
    """Its buffers never shrink; a text with fewer tokens than are protected keeps them all."""
    model, params = make(task="features")
    batch, _ = batch_of(example(16), example(3, seed=1))
    left = simulate(model, params, batch, model.plan(0.1, 16)).positions
    assert [[p for p in row if p >= 0] for row in left.tolist()] == kept(model, params, batch)
    with pytest.raises(ValueError, match="nor fall under what is protected"):
        simulate(model, params, batch, np.full((2, 2), ROOM - 1, np.int32))


def test_a_classifier_answers_from_cls_all_the_same():
    """Its last layer leaves the protected ones, CLS among them."""
    model, params = make(task="classification")
    batch, _ = batch_of(example(14))
    plan = model.plan(0.5, 16)
    whole, cut = (latadj_jax.apply(model, params, batch, plan=p) for p in (plan, plan.for_head()))
    assert cut.positions.shape[1] == ROOM
    np.testing.assert_allclose(cut.logits, whole.logits, **SAME)


def test_the_artefact_carries_it(tmp_path):
    model, params = make()
    latadj_jax.save_pretrained(tmp_path, model, params)
    loaded, _ = latadj_jax.from_pretrained(tmp_path)
    assert loaded.protected == ROOM
    file = tmp_path / "elimination.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "protected": 0}))
    with pytest.raises(
        ValueError, match=r"elimination\.json cannot .* protected must be an integer"
    ):
        latadj_jax.from_pretrained(tmp_path)
    del values["protected"]  # as an older version wrote it
    file.write_text(json.dumps(values))
    assert latadj_jax.from_pretrained(tmp_path)[0].protected is None


def test_an_alpha_is_solved_with_what_is_protected():
    model, _ = make()
    plans = [m.plan(m.solve_alpha(16, 1.5), 16) for m in (model, model.replace(protected=None))]
    assert [plan.floor for plan in plans] == [ROOM, 1]
    with pytest.raises(ValueError, match="speedup 4 is out of reach"):
        model.solve_alpha(16, 4)


@pytest.mark.parametrize("protected", [0, -1, 1.5, True, "5"])
def test_what_is_no_number_of_tokens_is_refused(protected):
    with pytest.raises(ValueError, match="protected must be an integer of at least 1"):
        make(protected=protected)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (np.full((1, 16), 2), "protected holds 2..2"),
        (np.ones((1, 3), np.int32), "protected must have"),
    ],
)
def test_marks_that_cannot_be_read_are_refused(marks, message):
    model, params = make()
    batch, _ = batch_of(example(16))
    with pytest.raises(ValueError, match=message):
        latadj_jax.apply(model, params, {**batch, "protected": marks}, 0.5)


def test_the_model_stays_hashable():
    model, _ = make()
    assert hash(model) != hash(dataclasses.replace(model, protected=None))
