"""One training at several alphas: what a step draws, and the dense pass as a teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.tasks.registry import TASKS
from latadj_jax.training import steps, train

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_the_distance_from_a_teacher_is_the_kl_divergence():
    """KL(teacher || student), no gradient to the teacher; of a regression the squared error."""
    logits, teacher = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    weights = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (teacher, logits))
    expected = ((p * np.log(p / q)).sum(-1) * weights).sum()
    found = TASKS["lm"].distance(jnp.asarray(logits), jnp.asarray(teacher), weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    one = jnp.asarray(logits[..., :1]), jnp.asarray(teacher[..., :1])
    squared = (np.square(logits[..., 0] - teacher[..., 0]) * weights).sum()
    assert float(TASKS["regression"].distance(*one, weights)) == pytest.approx(squared, rel=1e-5)
    gradient = jax.grad(lambda t: TASKS["lm"].distance(jnp.asarray(logits), t, weights))
    assert not np.asarray(gradient(jnp.asarray(teacher))).any()


def test_several_alphas_are_drawn_by_the_step_alone(tmp_path):
    base = tiny_run.settings(tmp_path, num_layers=2).elimination
    model = tiny.make_model().replace(alpha=0.9)
    one = dataclasses.replace(base, alphas=(0.7, 0.8, 1.1))
    drawn = [train.plans_of_step(model, one, 16, 0, step) for step in range(30)]
    assert drawn == [train.plans_of_step(model, one, 16, 0, step) for step in range(30)]
    assert {len(plans) for plans in drawn} == {1}
    assert len(set(drawn)) == 3
    sandwich = dataclasses.replace(one, sandwich=True, distill=0.5)
    dense, largest, smallest, between = train.plans_of_step(model, sandwich, 16, 0, 1)
    assert dense.is_dense
    rates = [plan.rates[0] for plan in (largest, smallest, between)]
    assert rates == [model.plan(alpha, 16).rates[0] for alpha in (1.1, 0.7, 0.8)]


@pytest.mark.parametrize("distill", [0.0, 0.25, 1.0])
def test_the_loss_of_a_step_is_that_of_its_passes(distill):
    """Of the labels, and for the share `distill` the distance from the dense pass's logits."""
    off = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    model = tiny.make_model(task="classification", num_hidden_layers=2, **off)
    params = tiny.random_params(model)
    inputs, _ = tiny.mixed_batch()
    labels = np.array([0, 1, 0, 1], np.int32)
    batch = {**inputs, "labels": labels, "weights": np.ones(4, np.float32)}
    plans = tuple(model.plan(alpha, batch["input_ids"].shape[1]) for alpha in (None, 0.4))

    def logits(params, plan):
        return latadj_jax.apply(model, params, inputs, plan=plan).logits

    def expected(params):
        log_dense, log_pruned = (jax.nn.log_softmax(logits(params, plan)) for plan in plans)
        rows = np.arange(4)
        teacher = jax.lax.stop_gradient(log_dense)
        distance = (jnp.exp(teacher) * (teacher - log_pruned)).sum()
        of_labels = -log_pruned[rows, labels].sum()
        pruned = (1 - distill) * of_labels + distill * distance
        return (-log_dense[rows, labels].sum() + pruned) / 2

    def found(params):
        step = steps.Step(model, None, plans, distill)
        return steps._total_loss(step, params, batch, jax.random.key(0))

    (one, one_slope), (other, other_slope) = (
        jax.value_and_grad(f)(params) for f in (found, expected)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one_slope, other_slope)


@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_a_run_at_several_alphas(tmp_path, distill):
    elimination = {"alphas": (0.7, 0.9, 1.0), "sandwich": True, "distill": distill}
    settings = tiny_run.settings(
        tmp_path, num_layers=2, elimination=elimination, train={"max_steps": 40}
    )
    results = train.train(settings)
    assert all(row.metrics["test"]["accuracy"] > 0.7 for row in results.rows)
