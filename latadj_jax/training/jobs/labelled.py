"""A training run on labelled texts, or on a teacher's answers to texts: of an encoder."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.data.encoded import Encoded, buckets_of
from latadj_jax.data.labelled_examples import Examples
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.evaluate import evaluate, outputs_of
from latadj_jax.evaluation.results import Results
from latadj_jax.extras import require
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.registry import TASKS as EVERY_TASK
from latadj_jax.training.jobs.job import Job, as_trained, watched
from latadj_jax.training.jobs.readers import READERS, reader_of
from latadj_jax.training.jobs.teacher import Teacher, load_teacher
from latadj_jax.training.settings import Settings

TASKS = tuple(READERS)


def load(settings: Settings) -> Job:
    """The pretrained model with a head for the data's labels, and the examples' token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    # ---- texts and labels -------------------------------------------------------------------
    data, task = settings.data, EVERY_TASK[settings.model.task]
    reader = reader_of(task)
    require("train", *reader.needs)  # used at the end only
    teacher = load_teacher(settings) if settings.teacher else None
    if teacher and task.named:
        data = dataclasses.replace(data, labels=teacher.classes(data.labels))
    train_examples, eval_examples, labels = reader.load(data, task, settings.seed)
    every = {"the training data": train_examples, **eval_examples}
    reader.check(settings.eval.metrics, bool(data.labelled_by), labels, every)

    # ---- the model --------------------------------------------------------------------------
    num_labels = (len(labels) if task.named else 1) if task.labelled else None
    model, params = from_pretrained(
        settings.model.source,
        task.name,
        num_labels,
        "float32",
        seed=settings.seed,
        strict=settings.model.strict,
    )
    what = f"config.data.max_length is {data.max_length}"
    check_fits(data.max_length, model.config.max_positions, what, "lower it", error=SettingsError)
    if teacher:
        teacher.check_pupil(model.config.labels)
    else:
        _check_head(model.config.labels, labels)
    model = model.replace(config=model.config.replace(labels=labels or model.config.labels))
    model = as_trained(model, settings)

    # ---- token ids --------------------------------------------------------------------------
    tokenizer = load_tokenizer(settings.model.source)
    train_data = reader.encode(tokenizer, train_examples, data, model)
    eval_data = {
        name: reader.encode(tokenizer, part, data, model) for name, part in eval_examples.items()
    }

    # ---- the model can learn from the data --------------------------------------------------
    for name, part in {"training": train_data, **eval_data}.items():
        texts = part.one_by_one.examples
        check_ids(texts, model.input_ranges, lambda n, name=name: f"{name}, example {n}")
    if not teacher:
        task.check_labels(train_data.labels, len(model.config.labels))
    if data.labelled_by:
        for part in eval_data.values():
            task.check_labels(part.labels, len(model.config.labels))

    job = Job(
        model=model,
        params=params,
        tokenizer=tokenizer,
        data=train_data,
        buckets=buckets_of(data, "valid"),
        planned={bucket: bucket for bucket in buckets_of(data, settings.elimination.count)},
        held_out=watched(settings, eval_data),
        evaluate=_evaluator(settings, eval_examples, eval_data),
    )
    if not teacher:
        return job
    unlabelled = {} if data.labelled_by else eval_examples
    teach = functools.partial(
        _taught,
        job,
        settings,
        teacher,
        eval_examples,
        eval_data,
        train_read=teacher.reads(train_examples),
        eval_read={name: teacher.reads(part) for name, part in unlabelled.items()},
    )
    return dataclasses.replace(job, teach=teach)


def _check_head(own: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Refuses to start from a model whose head has the data's classes in another order."""
    if labels != own and sorted(labels) == sorted(own):
        raise SettingsError(
            f"the head of config.model.source has the classes {own}, the data {labels}: set "
            f"config.data.labels to the head's, or its classes would be swapped."
        )


def _taught(
    job: Job,
    settings: Settings,
    teacher: Teacher,
    eval_examples: Mapping[str, Examples],
    eval_data: Mapping[str, Encoded],
    train_read: Encoded,
    eval_read: Mapping[str, Encoded],
) -> Job:
    """The job with a teacher's answers as labels; evaluation has them, too, if it has no labels.

    Args:
      train_read, eval_read: what the teacher answers to, as token ids of its own.
    """
    learned = answered_by(teacher, train_read, job.data, teacher.teaches)
    held_out = job.held_out
    if eval_read and held_out:  # its loss is the distance from what is taught
        name = next(iter(eval_read))
        held_out = answered_by(teacher, eval_read[name], eval_data[name], teacher.teaches)
    if eval_read:
        eval_data = {
            name: answered_by(teacher, eval_read[name], part, teacher.answers)
            for name, part in eval_data.items()
        }
    return dataclasses.replace(
        job,
        data=learned,
        held_out=held_out,
        evaluate=_evaluator(settings, eval_examples, eval_data),
    )


def answered_by(teacher: Teacher, read: Encoded, part: Encoded, answers: Callable) -> Encoded:
    """A part of the data with a teacher's answers to it as labels.

    Args:
      read: the same texts as token ids of the teacher's own.
      answers: one of the teacher's methods, of `read`.

    Raises:
      SettingsError: one that answers for each token, and whose tokens are others.
    """
    if not teacher.model.record.per_token:
        return dataclasses.replace(part, labels=answers(read))
    pairs = zip(read.examples, part.examples, strict=False)
    same = all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in pairs)
    if not same or len(read.examples) != len(part.examples):
        raise SettingsError(
            f"{teacher.settings.teacher!r} answers for each token, and its tokenizer makes others "
            f"than config.model.source's: name a teacher with the same tokenizer."
        )
    return dataclasses.replace(part, labels=answers(read), labels_of="token")


def evaluator(settings: Settings, model: Model, tokenizer) -> Callable:
    """`evaluate` of (model, params) that were trained with these settings."""
    # The model's labels: what the data's own would be today may be in another order.
    reader, task = reader_of(model.record), model.record
    require("train", *reader.needs)
    data = dataclasses.replace(settings.data, labels=model.config.labels if task.named else ())
    examples = reader.load(data, task, settings.seed)[1]
    reader.check(settings.eval.metrics, bool(data.labelled_by), data.labels, examples)
    eval_data = {
        name: reader.encode(tokenizer, part, data, model) for name, part in examples.items()
    }
    if not data.labelled_by:
        teacher = load_teacher(settings)
        eval_data = {
            name: answered_by(teacher, teacher.reads(examples[name]), part, teacher.answers)
            for name, part in eval_data.items()
        }
    return _evaluator(settings, examples, eval_data)


def _evaluator(
    settings: Settings, examples: Mapping[str, Examples], parts: Mapping[str, Encoded]
) -> Callable:
    count = settings.elimination.count
    labelled = settings.data.labelled_by
    reader = reader_of(EVERY_TASK[settings.model.task])
    unit = reader.unit if labelled else f"texts as {settings.teacher} answers"

    def run(
        model: Model, params, alphas=settings.eval.alphas, speedups=(), served=False
    ) -> Results:
        def score(name: str, part: Encoded, plans, label: str) -> dict[str, float]:
            rows = outputs_of(model, params, part, plans, settings.eval.batch_size, label)
            names = settings.eval.metrics
            return reader.measure(names, model, examples[name], parts[name], rows)

        return evaluate(
            model,
            params,
            parts={name: part.one_by_one for name, part in parts.items()},
            alphas=alphas,
            settings=settings.eval,
            buckets=buckets_of(settings.data, count),
            count=count,
            score=score,
            unit=unit,
            speedups=speedups,
            served=served,
        )

    return run
