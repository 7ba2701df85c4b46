"""The optimizer: AdamW with linear warm-up and decay, after gradient clipping."""

import functools

import jax
import optax

from latadj_jax.settings import TrainSettings


def learning_rate(train: TrainSettings, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 over `train.warmup` of all steps, then linear decay to 0."""
    warmup_steps = round(train.warmup * total_steps)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, train.learning_rate, max(1, warmup_steps)),
            optax.linear_schedule(train.learning_rate, 0.0, max(1, total_steps - warmup_steps)),
        ],
        [warmup_steps],
    )


@functools.cache  # one object per setting, so that jit knows it again
def make_optimizer(train: TrainSettings, total_steps: int) -> optax.GradientTransformation:
    """AdamW (0.9, 0.999) of gradients clipped to a global norm; biases and norms do not decay."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm),
        optax.adamw(
            learning_rate(train, total_steps),
            b1=0.9,
            b2=0.999,
            weight_decay=train.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
