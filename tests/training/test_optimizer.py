"""What a step of each optimizer does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from latadj_jax.errors import SettingsError
from latadj_jax.training.optimizer import learning_rate, make_optimizer
from latadj_jax.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("standard_promotion")


def step(settings: TrainSettings, params, grads, first=None):
    """The second update, after gradients `first` or the same: at step 0 the warm-up stands at 0."""
    optimizer = make_optimizer(settings, 10)
    state = optimizer.init(params)
    for now in (grads if first is None else first, grads):
        updates, state = optimizer.update(now, state, params)
    return jax.tree.map(np.asarray, updates)


PARAMS = {"embedding": jnp.ones((4, 4)), "kernel": jnp.full((4, 4), 0.01), "bias": jnp.ones(4)}
GRADS = jax.tree.map(jnp.ones_like, PARAMS)


def test_adamw_moves_all_parameters_alike_and_decays_kernels():
    settings = TrainSettings(learning_rate=0.1, weight_decay=0.5)
    updates = step(settings, PARAMS, GRADS)
    rate = float(learning_rate(settings, 10)(1))
    np.testing.assert_allclose(updates["bias"], -rate, rtol=1e-4)
    np.testing.assert_allclose(updates["embedding"], -rate * 1.5, rtol=1e-4)
    np.testing.assert_allclose(updates["kernel"], -rate * 1.005, rtol=1e-4)


def test_adafactor_moves_parameters_by_a_share_of_their_size():
    settings = TrainSettings(optimizer="adafactor", learning_rate=0.1, weight_decay=0.0)
    updates = step(settings, PARAMS, GRADS)
    rate = float(learning_rate(settings, 10)(1))
    np.testing.assert_allclose(updates["embedding"], -rate, rtol=1e-4)
    np.testing.assert_allclose(updates["kernel"], -rate * 0.01, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_gradients_are_clipped_before_all_else(optimizer):
    """Both optimizers see ratios of gradients: a great one after a small one would show."""
    settings = TrainSettings(optimizer=optimizer, weight_decay=0.0, clip_norm=1e-3)
    great = jax.tree.map(lambda g: 1e6 * g, GRADS)
    alike, greater = step(settings, PARAMS, GRADS), step(settings, PARAMS, great, first=GRADS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), alike, greater)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"optimizer": "sgd"}, "train.optimizer must be one of adamw, adafactor"),
        ({"optimizer": "adafactor"}, "train.weight_decay must be 0 with adafactor"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, train, message):
    with pytest.raises(SettingsError, match=message):
        tiny_run.settings(tmp_path, train=train)
