"""Losses of several labels, of rankings and of embeddings, against torch and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latadj_jax.tasks.embedding import EMBEDDING, cosent, distance
from latadj_jax.tasks.multi_label import MULTI_LABEL, probabilities
from latadj_jax.tasks.ranking import RANKING
from latadj_jax.tasks.task import Outcome

RNG = np.random.default_rng(0)
LOGITS_NC = RNG.normal(size=(5, 3)).astype(np.float32)
HOLDS_NC = (RNG.random((5, 3)) < 0.5).astype(np.float32)
WEIGHTS_N = np.array([1, 1, 1, 1, 0], np.float32)  # the last only fills the batch

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_binary_cross_entropy_is_that_of_torch():
    """And a teacher's probabilities in place of labels are soft ones."""
    torch = pytest.importorskip("torch")
    loss = torch.nn.BCEWithLogitsLoss(reduction="none")
    for targets in (HOLDS_NC, probabilities(LOGITS_NC[::-1])):
        losses_NC = loss(torch.from_numpy(LOGITS_NC), torch.from_numpy(np.array(targets)))
        expected = losses_NC.mean(dim=1)[:4].sum()
        found = MULTI_LABEL.total_loss(Outcome(LOGITS_NC, jnp.asarray(targets), WEIGHTS_N))
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    own = MULTI_LABEL.distance(LOGITS_NC, jnp.asarray(LOGITS_NC[::-1]), WEIGHTS_N)
    assert float(own) == pytest.approx(float(found), rel=1e-5)


def test_a_ranking_learns_from_relevances_or_from_a_teachers_logits():
    torch = pytest.importorskip("torch")
    logits_N1, targets_N = LOGITS_NC[:, :1], HOLDS_NC[:, 0]
    loss = torch.nn.BCEWithLogitsLoss(reduction="none")
    expected = loss(torch.from_numpy(logits_N1[:, 0]), torch.from_numpy(targets_N))[:4].sum()
    found = RANKING.total_loss(Outcome(logits_N1, jnp.asarray(targets_N), WEIGHTS_N))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    taught = RANKING.total_loss(Outcome(logits_N1, jnp.asarray(logits_N1 + 2), WEIGHTS_N))
    assert float(taught) == pytest.approx(4 * 4.0, rel=1e-5)  # four texts, each 2 away


def test_cosent_is_that_of_sentence_transformers():
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    pairs_N2D = RNG.normal(size=(5, 2, 8)).astype(np.float32)
    likeness_N = np.array([0.2, 0.9, 0.5, 0.9, 3.0], np.float32)
    of_four = [torch.from_numpy(pairs_N2D[:4, n]) for n in (0, 1)]
    expected = losses.CoSENTLoss(model=torch.nn.Identity()).compute_loss_from_embeddings(
        of_four, torch.from_numpy(likeness_N[:4])
    )
    found = cosent(pairs_N2D, jnp.asarray(likeness_N), jnp.asarray(WEIGHTS_N)) / 4
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    assert float(EMBEDDING.total_loss(Outcome(pairs_N2D, jnp.asarray(likeness_N), WEIGHTS_N))) == (
        pytest.approx(4 * float(found), rel=1e-5)
    )


def test_a_teachers_embeddings_are_learned_one_by_one_and_in_how_alike_they_are():
    """By hand: the first vector is turned by a right angle, the second as long as 2."""
    teacher_ND = jnp.array([[1.0, 0], [2, 0], [0, 3]])
    found_ND = jnp.array([[0.0, 1], [2, 0], [0, 3]])
    # Own: 1 - cos of the first is 1. Alike: (1, 2) was 1 and is 0, (1, 3) was 0 and is 1.
    expected = [1 + (1 + 1) / 2, 0 + (1 + 0) / 2, 0 + (1 + 0) / 2]
    weights_N = jnp.ones(3)
    assert float(distance(found_ND, teacher_ND, weights_N)) == pytest.approx(sum(expected))
    # A filler is no text, and nobody's companion.
    expected = [1 + 1, 1]
    assert float(distance(found_ND, teacher_ND, jnp.array([1.0, 1, 0]))) == pytest.approx(3)
    assert float(distance(found_ND, teacher_ND, jnp.zeros(3))) == 0  # a part of fillers alone
    as_pairs = distance(found_ND[None, :2], teacher_ND[None, :2], jnp.ones(1))
    assert float(as_pairs) == pytest.approx(sum(expected) / 2)  # a pair counts as one example
    grad = jax.grad(lambda teacher: distance(found_ND, teacher, weights_N))(teacher_ND)
    assert not np.asarray(grad).any()
