"""Fine-tuning with elimination on: one flat run from settings to a report."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import jax
import numpy as np
import optax
from tqdm import tqdm

from latadj_jax.data.encoded import Encoded, calibration_batches, collate, group
from latadj_jax.devices.mesh import (
    fetch,
    make_mesh,
    num_row_groups,
    own_rows,
    place_batch,
    place_own_rows,
)
from latadj_jax.devices.processes import first_alone, together
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.settings import EliminationSettings
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.report import write_report
from latadj_jax.evaluation.results import Results
from latadj_jax.extras import require
from latadj_jax.model.calibrate import calibrate
from latadj_jax.model.model import Model
from latadj_jax.model.placement import check_heads
from latadj_jax.pretrained.save import save_pretrained
from latadj_jax.tasks.registry import TASKS
from latadj_jax.training.checkpoints import Checkpoints
from latadj_jax.training.jobs.job import Job, given_profile
from latadj_jax.training.jobs.registry import kind_of
from latadj_jax.training.metrics_log import MetricsLog, require_tensorboard
from latadj_jax.training.optimizer import learning_rate, make_optimizer
from latadj_jax.training.run_folder import PROFILE_FILE, check_data, check_workdir, claimed_workdir
from latadj_jax.training.settings import Settings, TrainSettings
from latadj_jax.training.sigterm import Stopped, stop_requests
from latadj_jax.training.steps import Step, abstract_state, evaluation_loss, first_state, train_step

log = logging.getLogger(__name__)

# Of (model, elimination settings, length, seed, step from 1): the plans that the step trains.
PlansOf = Callable[[Model, EliminationSettings, int, int, int], tuple[Plan, ...]]


def train(settings: Settings) -> Results:
    """Loads, calibrates, fine-tunes, evaluates and reports, into `settings.workdir`.

    Run again after an interruption it goes on from the newest checkpoint, to the same end.

    Asked to stop by SIGTERM it saves and ends. Of several processes, which must all call it with
    the same settings, the first writes logs and reports.

    Returns:
      The evaluation's results, which results.json holds too.

    Raises:
      ValueError: settings, data or weights that cannot work, or a folder of another run.
      Stopped: it was asked to stop.
    """
    require("train", "sklearn", "matplotlib")  # used at the end only
    check_workdir(settings)
    if settings.train.tensorboard:
        require_tensorboard()
    m = settings.mesh
    mesh = make_mesh(m.data, m.fsdp, m.tensor)
    with jax.set_mesh(mesh) if mesh.size > 1 else nullcontext():
        _check_rows(settings.train)
        return _train(settings)


def _train(settings: Settings) -> Results:
    # ---- model and data ---------------------------------------------------------------------
    job = together(lambda: kind_of(TASKS[settings.model.task]).load(settings))
    check_heads(job.model)
    given = together(lambda: given_profile(job.model, settings))
    fingerprint = job.data.fingerprint()  # before a teacher says what each device makes of it
    if job.teach:
        job = job.teach()
    if job.held_out and not job.held_out.examples:
        raise SettingsError(
            "config.train.evaluate_every needs an evaluation text of at least config.lm.window "
            "tokens; take a longer one, or set it to 0."
        )
    with claimed_workdir(settings) as workdir:
        first_alone(lambda: check_data(workdir, fingerprint))
        profile_file = workdir / PROFILE_FILE
        if together(lambda: not profile_file.exists()):
            profile = given or calibrated(job, settings)
            first_alone(lambda: profile.save(profile_file))
        model = job.model.replace(profile=Profile.load(profile_file))
        if settings.elimination.profile and model.profile != given:
            raise SettingsError(
                f"{settings.elimination.profile} is not what the run in {workdir} began with; name "
                f"another config.workdir."
            )

        # ---- fine-tuning --------------------------------------------------------------------
        params = fine_tune(model, job, settings, workdir)

        # ---- artefact, evaluation, report ---------------------------------------------------
        save_pretrained(workdir / "model", model, params, job.tokenizer)
        results = job.evaluate(model, params)
        first_alone(lambda: write_report(workdir, results, model))
        return results


def calibrated(job: Job, settings: Settings) -> Profile:
    """Profile of a random part of the training data, before fine-tuning."""
    e = settings.elimination
    rng = np.random.default_rng(settings.seed)
    chosen = rng.permutation(len(job.data.examples))[: e.calibration_examples]
    examples = [job.data.examples[i] for i in chosen]
    batches = list(calibration_batches(examples, job.buckets, settings.eval.batch_size))
    progress = tqdm(batches, desc="calibrate", unit="batch", leave=False)
    return e.reshape(calibrate(job.model, job.params, progress, e.fit))


def fine_tune(
    model: Model, job: Job, settings: Settings, workdir: Path, plans_of: PlansOf | None = None
):
    """The parameters after all steps; checkpoints and metrics.jsonl go to `workdir`.

    Args:
      plans_of: in place of `plans_of_step`.
    """
    plans_of = plans_of or plans_of_step
    t, e = settings.train, settings.elimination
    trained = model.replace(remat=t.remat)
    steps_per_epoch = -(-len(job.data.examples) // t.batch_size)
    total_steps = t.max_steps or max(1, round(t.epochs * steps_per_epoch))
    optimizer, schedule = make_optimizer(t, total_steps), learning_rate(t, total_steps)

    key = jax.random.key(settings.seed, impl=t.generator)
    folder = workdir / "checkpoints"
    with Checkpoints(folder, t.keep, t.evaluate_every > 0) as checkpoints:
        # Losses of the steps since the last line of the log, still on the device.
        if checkpoints.newest is None:
            start, state, losses = 0, first_state(model, optimizer, job.params), []
        else:
            _release(job.params)
            like = abstract_state(model, optimizer)
            start, state, losses = checkpoints.restore_newest(like)
            log.info("Going on from step %d of %d.", start, total_steps)
        with (
            closing(MetricsLog(workdir, start, t.tensorboard)) as metrics_log,
            tqdm(total=total_steps, initial=start, desc="train", unit="step") as progress,
            stop_requests() as stop_requested,
        ):
            batches = training_batches(
                job.data, sorted(job.planned), t, settings.seed, start, total_steps
            )
            for step, batch in batches:
                length = job.planned[batch["input_ids"].shape[1]]
                plans = plans_of(trained, e, length, settings.seed, step)
                what = Step(trained, optimizer, plans, e.distill, t.accumulate)
                state, loss = train_step(what, state, place_own_rows(batch, t.batch_size), key)
                losses.append(loss)
                progress.update()
                is_last, stopping = step == total_steps, stop_requested(step)
                if step % t.log_every == 0 or is_last:
                    mean_loss = float(np.mean([float(fetch(loss)) for loss in losses]))
                    _check_finite("loss", mean_loss, step, checkpoints)
                    epoch, rate = step / steps_per_epoch, float(schedule(step - 1))
                    metrics_log.write(step, loss=mean_loss, learning_rate=rate, epoch=epoch)
                    progress.set_postfix(loss=f"{mean_loss:.3f}")
                    losses = []
                if step % t.checkpoint_every == 0 or is_last or stopping:
                    _check_finite("norm of the parameters", _norm(state.params), step, checkpoints)
                    held_out = None
                    if t.evaluate_every and (step % t.evaluate_every == 0 or is_last):
                        held_out = held_out_loss(model, state.params, job, settings)
                        _check_finite("evaluation loss", held_out, step, checkpoints)
                        metrics_log.write(step, evaluation_loss=held_out)
                    checkpoints.save(step, state, map(fetch, losses), held_out)
                if stopping:
                    checkpoints.wait()
                    raise Stopped(f"asked to stop: step {step} of {total_steps} is saved, and the "
                                  f"same command goes on from it.")  # fmt: skip
        if t.keep_best and (best := checkpoints.best) not in (None, total_steps):
            checkpoints.wait()
            log.info("The best checkpoint is that of step %d.", best)
            _release(state)
            state, _ = checkpoints.restore(best, abstract_state(model, optimizer))
    return state.params


def _release(tree) -> None:
    """Gives the memory of arrays back, before others like them are made."""
    jax.tree.map(lambda x: x.delete(), tree)


def plans_of_step(model: Model, e: EliminationSettings, length: int, seed: int, step: int):
    """The plans that a step trains, of `length` tokens; drawn by the seed and the step alone."""

    def plan(alpha: float | None) -> Plan:
        return model.plan(alpha, length, count=e.count)

    first = (plan(None),) if e.distill else ()
    if not e.alphas:
        return (*first, plan(model.alpha))
    ranked = sorted(e.alphas, reverse=True)
    rng = np.random.default_rng([seed, step])
    if not e.sandwich:
        return (*first, plan(ranked[rng.integers(len(ranked))]))
    between = ranked[1:-1]
    drawn = [between[rng.integers(len(between))]] if between else []
    return (*first, *(plan(alpha) for alpha in (ranked[0], ranked[-1], *drawn)))


def held_out_loss(model: Model, params, job: Job, settings: Settings) -> float:
    """Mean loss on the evaluation data, with elimination at the model's own alpha."""
    total = weight = 0.0
    for _, batch in job.held_out.batches(sorted(job.planned), settings.eval.batch_size):
        length = job.planned[batch["input_ids"].shape[1]]
        plan = model.plan(model.alpha, length, count=settings.elimination.count)
        of_batch = map(fetch, evaluation_loss(model, plan, params, place_batch(batch)))
        total, weight = (x + float(y) for x, y in zip((total, weight), of_batch, strict=True))
    return total / weight


_norm = jax.jit(optax.tree.norm)


def _check_finite(what: str, value, step: int, checkpoints: Checkpoints) -> None:
    value = float(fetch(value))
    if np.isfinite(value):
        return
    checkpoints.wait()
    good = checkpoints.newest
    raise FloatingPointError(
        f"the {what} is {value} at step {step}, which was not saved; the last good checkpoint is "
        f"{f'that of step {good}' if good else 'none'}. Try a lower config.train.learning_rate, "
        f"with another config.workdir."
    )


def _check_rows(t: TrainSettings) -> None:
    """Raises SettingsError for a batch whose parts cannot be shared by the mesh's rows."""
    groups = num_row_groups()
    if t.batch_size % (groups * t.accumulate):
        raise SettingsError(
            f"config.train.batch_size is {t.batch_size}; it must be a multiple of mesh.data x "
            f"mesh.fsdp x train.accumulate, {groups} x {t.accumulate}."
        )


def training_batches(
    data: Encoded, buckets, t: TrainSettings, seed: int, start: int, total_steps: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(step, batch) for the steps after `start`; the order depends only on the seed and epoch.

    A batch holds the rows of this process's devices only.
    """
    own = own_rows(t.batch_size)
    lengths = data.lengths
    steps_per_epoch = -(-len(lengths) // t.batch_size)
    for epoch in range(start // steps_per_epoch, -(-total_steps // steps_per_epoch)):
        order = group(lengths, buckets, t.batch_size, np.random.default_rng([seed, epoch]))
        for n, (indices, bucket) in enumerate(order, start=epoch * steps_per_epoch + 1):
            if start < n <= total_steps:
                yield n, collate(data, indices, bucket, t.batch_size, own)
