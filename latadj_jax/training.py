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

from latadj_jax import lm, tasks
from latadj_jax.api import from_pretrained
from latadj_jax.batch import collate, group
from latadj_jax.calibration import calibrate
from latadj_jax.checkpoint import Checkpoints
from latadj_jax.corpus import encode_text, load_corpus
from latadj_jax.evaluation import Encoded, buckets_of, calibration_batches, encoded, evaluate
from latadj_jax.model import Model
from latadj_jax.optim import learning_rate, make_optimizer
from latadj_jax.perplexity import evaluate_text
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
from latadj_jax.text import load_examples, load_tokenizer

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

    if settings.model.task == "lm":
        return _train_lm(settings)

    # ---- data -------------------------------------------------------------------------------
    train_examples, eval_examples, labels = load_examples(
        settings.data, settings.model.task, settings.seed
    )
    tokenizer = load_tokenizer(settings.model.source)
    train_data = encoded(tokenizer, train_examples, settings.data)
    eval_data = {
        name: encoded(tokenizer, part, settings.data) for name, part in eval_examples.items()
    }

    # ---- model ------------------------------------------------------------------------------
    model, params = load_model(settings, labels)
    for part in (train_data, *eval_data.values()):
        tasks.check_labels(model.task, part.labels, len(model.config.labels))
    workdir = claim_workdir(settings)
    profile_file = workdir / PROFILE_FILE
    if not profile_file.exists():
        calibrated(model, params, train_data, settings).save(profile_file)
    model = model.replace(profile=Profile.load(profile_file))

    # ---- fine-tuning ------------------------------------------------------------------------
    e, buckets = settings.elimination, buckets_of(settings.data, settings.elimination.count)
    plans = {b: model.plan(model.alpha, b, count=e.count) for b in buckets}
    params = fine_tune(model, params, train_data, plans, settings, workdir)

    # ---- artefact, evaluation, report -------------------------------------------------------
    save_pretrained(workdir / "model", model, params, tokenizer)
    results = evaluate(
        model, params, eval_data, settings.eval.alphas, settings.eval, buckets, e.count
    )
    write_report(workdir, results, model)
    return results


def _train_lm(settings: Settings) -> dict:
    """`train` of a language model: windows of running text in place of labelled examples."""
    train_text, eval_texts = load_corpus(settings.data)
    model, params, tokenizer = lm.load_model(settings, train_text)
    model = with_settings(model, settings)
    windows = lm.training_data(settings, encode_text(tokenizer, train_text))
    eval_ids = {name: encode_text(tokenizer, text) for name, text in eval_texts.items()}
    lm.check(settings, model, eval_ids)
    workdir = claim_workdir(settings)
    profile_file = workdir / PROFILE_FILE
    if not profile_file.exists():
        lm.calibrated(model, params, windows, settings).save(profile_file)
    model = model.replace(profile=Profile.load(profile_file))

    e, window = settings.elimination, settings.lm.window
    pruned = settings.lm.prompt or window
    plans = {window: model.plan(model.alpha, pruned, count=e.count)}
    params = fine_tune(model, params, windows, plans, settings, workdir)

    save_pretrained(workdir / "model", model, params, tokenizer)
    results = evaluate_text(
        model, params, eval_ids, settings.eval.alphas, settings.lm, settings.eval, e.count
    )
    write_report(workdir, results, model)
    return results


def load_model(settings: Settings, labels: tuple[str, ...]):
    """The pretrained model with a head for `labels`, set up for training in float32."""
    task, dropout = settings.model.task, settings.model.dropout
    num_labels = 1 if task == "regression" else len(labels)
    model, params = from_pretrained(
        settings.model.source, task, num_labels, "float32", seed=settings.seed
    )
    config = model.config
    if config.max_positions < settings.data.max_length:
        raise ValueError(
            f"config.data.max_length is {settings.data.max_length}, the model has "
            f"{config.max_positions} positions; lower it."
        )
    config = config.replace(labels=labels or config.labels).with_dropout(dropout)
    return with_settings(model.replace(config=config), settings), params


def with_settings(model: Model, settings: Settings) -> Model:
    """The model as it is trained and saved: its alpha, strategy and dtype of computation."""
    e = settings.elimination
    alpha = None if e.dense else e.alpha
    strategy = e.strategy or model.strategy
    return model.replace(alpha=alpha, strategy=strategy, dtype=settings.model.dtype)


def calibrated(model: Model, params, data: Encoded, settings: Settings) -> Profile:
    """Profile from a random part of the training data, before fine-tuning; 1 if none is wanted."""
    if settings.elimination.layers:
        return Profile.at_layers(model.config.num_layers, settings.elimination.layers)
    wanted = settings.elimination.calibration_examples
    if not wanted:
        return Profile.constant(model.config.num_layers)
    rng = np.random.default_rng(settings.seed)
    chosen = rng.permutation(len(data.examples))[:wanted]
    examples = [data.examples[i] for i in chosen]
    batches = list(calibration_batches(examples, settings.data, settings.eval.batch_size))
    progress = tqdm(batches, desc="calibrate", unit="batch", leave=False)
    return calibrate(model, params, progress, settings.elimination.fit)


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
