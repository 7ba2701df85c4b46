"""One training step: gradients of one plan or several, in parts if wanted, and the update."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.plan import Plan
from latadj_jax.model import placement
from latadj_jax.model.model import Model, param_shapes
from latadj_jax.training import losses


@struct.dataclass
class TrainState:
    step: jax.Array
    params: dict
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step is compiled for; hashable.

    Attributes:
      plans: one pass each; the loss is their mean.
      distill: above 0 the first plan is dense and teaches the others: this share of their loss is
        their distance from it.
      accumulate: parts that the batch is computed in.
    """

    model: Model
    optimizer: optax.GradientTransformation
    plans: tuple[Plan, ...]
    distill: float = 0.0
    accumulate: int = 1


def first_state(model: Model, optimizer: optax.GradientTransformation, params) -> TrainState:
    """The state before the first step, each part made where it belongs on the mesh."""
    opt_state = placement.make_placed(model, optimizer.init, params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def abstract_state(model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """The shapes, dtypes and shardings of a state, which takes no memory: to restore one into."""

    def state(params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return placement.with_shardings(model, jax.eval_shape(state, param_shapes(model)))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(s: Step, state: TrainState, batch, key: jax.Array):
    """One update, with gradients through the word-vectors that are kept: (state, loss).

    Parts of a batch are weighted by what they hold, so that accumulating changes nothing but the
    random numbers of dropout.
    """
    key = jax.random.fold_in(key, state.step)
    weight = jnp.maximum(s.model.record.weight(batch, s.plans[0]), 1.0)

    def loss_fn(params, part, key):
        return _total_loss(s, params, part, key) / weight

    if s.accumulate == 1:
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, key)
    else:
        # Part n has the rows n, n + accumulate, ...: each device computes on rows that it holds.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, s.accumulate, *x.shape[1:]).swapaxes(0, 1), batch
        )

        def add(total, part_and_number):
            part, number = part_and_number
            part = jax.tree.map(split_by_rows, part)
            key_of_part = jax.random.fold_in(key, number)
            loss, grads = jax.value_and_grad(loss_fn)(state.params, part, key_of_part)
            loss, grads = jax.tree.map(jnp.add, total, (loss, grads))
            return (loss, placement.split_as_params(s.model, grads)), None

        zeros = placement.split_as_params(s.model, jax.tree.map(jnp.zeros_like, state.params))
        nothing = jnp.zeros(()), zeros
        numbers = jnp.arange(s.accumulate, dtype=jnp.int32)
        (loss, grads), _ = jax.lax.scan(add, nothing, (parts, numbers))

    grads = placement.split_as_params(s.model, grads)
    updates, opt_state = s.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = TrainState(state.step + 1, params, opt_state)
    return placement.split_as_params(s.model, state), loss


def _total_loss(s: Step, params, batch, key: jax.Array) -> jax.Array:
    """Sum of the losses of a batch's predictions, mean over the plans."""
    total, teacher = 0.0, None
    for n, plan in enumerate(s.plans):
        streams = jax.random.split(jax.random.fold_in(key, n) if n else key)
        rngs = {"dropout": streams[0], "eliminate": streams[1]}
        found = losses.outcome(s.model, params, batch, plan, True, rngs)
        loss = s.model.record.total_loss(found)
        if s.distill and teacher is None:
            teacher = found.logits
        elif s.distill:
            distance = s.model.record.distance(found.logits, teacher, found.weights)
            loss = (1 - s.distill) * loss + s.distill * distance
        total += loss
    return total / len(s.plans)


@partial(jax.jit, static_argnums=(0, 1))
def evaluation_loss(model: Model, plan: Plan, params, batch):
    """Sums of losses and of weights of a batch, without dropout; their ratio is the loss."""
    rngs = {"eliminate": jax.random.key(0)}
    found = losses.outcome(model, params, batch, plan, False, rngs)
    return model.record.total_loss(found), jnp.sum(found.weights)
