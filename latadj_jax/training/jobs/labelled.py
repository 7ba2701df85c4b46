"""A training run on labelled texts: classification or regression."""

import dataclasses
import functools
from collections.abc import Mapping

from latadj_jax.checks import check_fits
from latadj_jax.data.encoded import Encoded, buckets_of, encoded
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.evaluate import evaluate
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks import losses as task_losses
from latadj_jax.training.jobs.job import Job, as_trained
from latadj_jax.training.jobs.teacher import Teacher, load_teacher
from latadj_jax.training.settings import Settings


def load(settings: Settings) -> Job:
    """The pretrained model with a head for the data's labels, and the examples' token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    data, task = settings.data, settings.model.task
    teacher = load_teacher(settings) if settings.teacher else None
    if teacher and task == "classification":
        data = dataclasses.replace(data, labels=teacher.classes(data.labels))
    train_examples, eval_examples, labels = load_examples(data, task, settings.seed)
    tokenizer = load_tokenizer(settings.model.source)
    train_data = encoded(tokenizer, train_examples, data)
    num_labels = 1 if task == "regression" else len(labels)
    model, params = from_pretrained(
        settings.model.source, task, num_labels, "float32", seed=settings.seed
    )
    what = f"config.data.max_length is {data.max_length}"
    check_fits(data.max_length, model.config.max_positions, what, "lower it", error=SettingsError)
    if teacher:
        teacher.check_pupil(model.config.labels)
    elif labels != model.config.labels and sorted(labels) == sorted(model.config.labels):
        raise SettingsError(
            f"the head of config.model.source has the classes {model.config.labels}, the data "
            f"{labels}: set config.data.labels to the head's, or its classes would be swapped."
        )
    model = model.replace(config=model.config.replace(labels=labels or model.config.labels))
    check_ids(train_data.examples, model.module.input_ranges(model.config))
    read = [
        *(() if teacher else (train_data,)),
        *(eval_examples.values() if data.labelled_by else ()),
    ]
    for part in read:
        task_losses.check_labels(task, part.labels, len(model.config.labels))
    job = Job(
        as_trained(model, settings),
        params,
        tokenizer,
        train_data,
        buckets_of(data, "valid"),
        {bucket: bucket for bucket in buckets_of(data, settings.elimination.count)},
        *_judgement(settings, model, tokenizer, eval_examples),
    )
    if not teacher:
        return job
    parts = {} if data.labelled_by else eval_examples
    lesson = teacher.reads(train_examples), {n: teacher.reads(part) for n, part in parts.items()}
    return job._replace(teach=functools.partial(_taught, job, settings, teacher, parts, *lesson))


def _taught(
    job: Job, settings: Settings, teacher: Teacher, parts: Mapping[str, Examples], train: Encoded,
    evals: Mapping[str, Encoded],
) -> Job:  # fmt: skip
    """The job with the teacher's answers as labels, those of evaluation, too, if none were read."""
    job = job._replace(data=Encoded(job.data.examples, teacher.teaches(train)))
    if not parts:
        return job
    answered = {n: Examples(parts[n].texts, teacher.answers(read)) for n, read in evals.items()}
    held_out, evaluate = _judgement(settings, job.model, job.tokenizer, answered)
    return job._replace(held_out=held_out, evaluate=evaluate)


def _judgement(settings: Settings, model: Model, tokenizer, parts: Mapping[str, Examples]):
    """What a run is judged by: whose loss is watched, if any, and the evaluation."""
    watched = next(iter(parts.values()))
    held_out = encoded(tokenizer, watched, settings.data) if settings.train.evaluate_every else None
    return held_out, evaluator(settings, model, tokenizer, parts)


def evaluation_data(settings: Settings, model: Model) -> dict[str, Examples]:
    """The evaluation examples by name, for a model that was trained on the settings' data."""
    # The model's labels: what the data's own would be today may be in another order.
    labels = model.config.labels if model.task == "classification" else ()
    data = dataclasses.replace(settings.data, labels=labels)
    parts = load_examples(data, model.task, settings.seed)[1]
    if data.labelled_by:
        return parts
    teacher = load_teacher(settings)
    return {
        name: Examples(part.texts, teacher.answers(teacher.reads(part)))
        for name, part in parts.items()
    }


def evaluator(settings: Settings, model: Model, tokenizer, data: Mapping[str, Examples]):
    """`evaluation.evaluate` of (model, params) on these examples."""
    count = settings.elimination.count
    return functools.partial(
        evaluate,
        parts={name: encoded(tokenizer, part, settings.data) for name, part in data.items()},
        alphas=settings.eval.alphas,
        settings=settings.eval,
        buckets=buckets_of(settings.data, count),
        count=count,
        unit="examples" if settings.data.labelled_by else f"texts as {settings.teacher} answers",
    )
