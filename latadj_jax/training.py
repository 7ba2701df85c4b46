"""Fine-tuning with elimination on: one flat run from settings to a report."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from tqdm import tqdm

from latadj_jax import tasks
from latadj_jax.batch import collate, group
from latadj_jax.calibration import calibrate
from latadj_jax.checkpoint import Checkpoints
from latadj_jax.evaluation import Encoded, calibration_batches
from latadj_jax.job import Job
from latadj_jax.jobs import KINDS
from latadj_jax.model import Model
from latadj_jax.optim import learning_rate, make_optimizer
from latadj_jax.plan import Plan
from latadj_jax.profile import Profile
from latadj_jax.report import write_report
from latadj_jax.runs import (
    PROFILE_FILE,
    MetricsLog,
    check_workdir,
    claim_workdir,
    require_tensorboard,
)
from latadj_jax.saving import save_pretrained
from latadj_jax.settings import Settings, TrainSettings

log = logging.getLogger(__name__)


@struct.dataclass
class TrainState:
    step: jax.Array
    params: dict
    opt_state: optax.OptState


def train(settings: Settings) -> dict:
    """Loads, calibrates, fine-tunes, evaluates and reports, into `settings.workdir`.

    Run again after an interruption it goes on from the newest checkpoint, to the same end.

    Returns:
      The evaluation's results, as in results.json.

    Raises:
      ValueError: settings, data or weights that cannot work, or a folder of another run.
    """
    check_workdir(settings)
    if settings.train.tensorboard:
        require_tensorboard()

    # ---- model and data ---------------------------------------------------------------------
    job = KINDS[settings.model.task].load(settings)
    workdir = claim_workdir(settings)
    profile_file = workdir / PROFILE_FILE
    if not profile_file.exists():
        calibrated(job, settings).save(profile_file)
    model = job.model.replace(profile=Profile.load(profile_file))

    # ---- fine-tuning ------------------------------------------------------------------------
    count = settings.elimination.count
    plans = {n: model.plan(model.alpha, m, count=count) for n, m in job.planned.items()}
    params = fine_tune(model, job.params, job.data, plans, settings, workdir)

    # ---- artefact, evaluation, report -------------------------------------------------------
    save_pretrained(workdir / "model", model, params, job.tokenizer)
    results = job.evaluate(model, params)
    write_report(workdir, results, model)
    return results


def calibrated(job: Job, settings: Settings) -> Profile:
    """Profile from a random part of the training data, before fine-tuning; 1 if none is wanted."""
    num_layers, e = job.model.config.num_layers, settings.elimination
    if e.layers:
        return Profile.at_layers(num_layers, e.layers)
    if not e.calibration_examples:
        return Profile.constant(num_layers)
    rng = np.random.default_rng(settings.seed)
    chosen = rng.permutation(len(job.data.examples))[: e.calibration_examples]
    examples = [job.data.examples[i] for i in chosen]
    batches = list(calibration_batches(examples, job.buckets, settings.eval.batch_size))
    progress = tqdm(batches, desc="calibrate", unit="batch", leave=False)
    return calibrate(job.model, job.params, progress, e.fit)


def fine_tune(
    model: Model,
    params,
    data: Encoded,
    plans: Mapping[int, Plan],
    settings: Settings,
    workdir: Path,
):
    """The parameters after all steps; checkpoints and metrics.jsonl go to `workdir`.

    Args:
      plans: the plan of each padded length (bucket).
    """
    t = settings.train
    steps_per_epoch = -(-len(data.examples) // t.batch_size)
    total_steps = t.max_steps or max(1, round(t.epochs * steps_per_epoch))
    optimizer, schedule = make_optimizer(t, total_steps), learning_rate(t, total_steps)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    # Dropout draws nearly all random bits; "rbg" compiles and draws faster than threefry.
    key = jax.random.key(settings.seed, impl="rbg")
    losses = []  # of the steps since the last line of the log, still on the device

    with closing(Checkpoints(workdir / "checkpoints")) as checkpoints:
        start = checkpoints.newest or 0
        if start:
            state = checkpoints.restore(start, state)
            log.info("Going on from step %d of %d.", start, total_steps)
        with (
            closing(MetricsLog(workdir, start, t.tensorboard)) as metrics_log,
            tqdm(total=total_steps, initial=start, desc="train", unit="step") as progress,
        ):
            batches = training_batches(data, sorted(plans), t, settings.seed, start, total_steps)
            for step, batch in batches:
                plan = plans[batch["input_ids"].shape[1]]
                state, loss = train_step(model, optimizer, plan, state, batch, key)
                losses.append(loss)
                progress.update()
                if step % t.log_every == 0 or step == total_steps:
                    mean_loss = float(np.mean(jax.device_get(losses)))
                    _check_finite("loss", mean_loss, step)
                    epoch, rate = step / steps_per_epoch, float(schedule(step - 1))
                    metrics_log.write(step, loss=mean_loss, learning_rate=rate, epoch=epoch)
                    progress.set_postfix(loss=f"{mean_loss:.3f}")
                    losses = []
                if step % t.checkpoint_every == 0 or step == total_steps:
                    _check_finite("norm of the parameters", _norm(state.params), step)
                    checkpoints.save(step, state)
    return state.params


_norm = jax.jit(optax.tree.norm)


def _check_finite(what: str, value: jax.Array | float, step: int) -> None:
    if not np.isfinite(value):
        raise FloatingPointError(
            f"the {what} is {float(value)} at step {step}, which was not saved; try a lower "
            f"config.train.learning_rate, with another config.workdir."
        )


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_step(model: Model, optimizer, plan: Plan, state: TrainState, batch, key: jax.Array):
    """One update, with gradients through the word-vectors that are kept: (state, loss)."""
    streams = jax.random.split(jax.random.fold_in(key, state.step))
    rngs = {"dropout": streams[0], "eliminate": streams[1]}

    def loss_fn(params):
        return tasks.training_loss(model, params, batch, plan, rngs)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), loss


def training_batches(
    data: Encoded, buckets, t: TrainSettings, seed: int, start: int, total_steps: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(step, batch) for the steps after `start`; the order depends only on the seed and epoch."""
    lengths = [len(example["input_ids"]) for example in data.examples]
    steps_per_epoch = -(-len(lengths) // t.batch_size)
    for epoch in range(start // steps_per_epoch, -(-total_steps // steps_per_epoch)):
        order = group(lengths, buckets, t.batch_size, np.random.default_rng([seed, epoch]))
        for n, (indices, bucket) in enumerate(order, start=epoch * steps_per_epoch + 1):
            if start < n <= total_steps:
                yield n, collate(data.examples, data.labels, indices, bucket, t.batch_size)
