"""The optimizer: AdamW or Adafactor with linear warm-up and decay, after gradient clipping."""

import functools

import jax
import optax

from latadj_jax.training.settings import TrainSettings


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
    """Of gradients clipped to a global norm: AdamW (0.9, 0.999) or Adafactor.

    AdamW decays the weights but not biases and norms. Adafactor's steps are relative to the
    size of what they change, and nothing decays: embeddings of size 1, as T5 draws them, and its
    far smaller kernels learn at one rate.

    Source: Loshchilov and Hutter, arXiv 1711.05101; Shazeer and Stern, arXiv 1804.04235.
    """
    schedule = learning_rate(train, total_steps)
    if train.optimizer == "adafactor":
        rule = optax.adafactor(schedule)
    else:
        decays = functools.partial(jax.tree.map, lambda p: p.ndim > 1)
        rule = optax.adamw(schedule, b1=0.9, b2=0.999, weight_decay=train.weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), rule)
