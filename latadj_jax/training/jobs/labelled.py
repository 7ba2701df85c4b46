"""A training run on labelled texts: classification or regression."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from latadj_jax.checks import check_fits
from latadj_jax.data.encoded import Encoded, buckets_of, encode_examples
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.evaluate import evaluate
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.registry import TASKS as EVERY_TASK
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.training.jobs.job import Job, as_trained, watched
from latadj_jax.training.jobs.teacher import Teacher, load_teacher
from latadj_jax.training.settings import Settings

TASKS = (CLASSIFICATION, REGRESSION)


def load(settings: Settings) -> Job:
    """The pretrained model with a head for the data's labels, and the examples' token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    # ---- texts and labels -------------------------------------------------------------------
    data, task = settings.data, EVERY_TASK[settings.model.task]
    teacher = load_teacher(settings) if settings.teacher else None
    if teacher and task.labels == "class":
        data = dataclasses.replace(data, labels=teacher.classes(data.labels))
    train_examples, eval_examples, labels = load_examples(data, task, settings.seed)

    # ---- their token ids --------------------------------------------------------------------
    tokenizer = load_tokenizer(settings.model.source)
    train_data = encode_examples(tokenizer, train_examples, data)
    eval_data = _encode_parts(tokenizer, eval_examples, data)

    # ---- the model --------------------------------------------------------------------------
    num_labels = len(labels) if task.labels == "class" else 1
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

    # ---- the model can learn from the data --------------------------------------------------
    check_ids(train_data.examples, model.input_ranges, "training example {}".format)
    for name, part in eval_data.items():
        check_ids(part.examples, model.input_ranges, lambda n, name=name: f"{name}, example {n}")
    if not teacher:
        task.check_labels(train_data.labels, len(model.config.labels))
    if data.labelled_by:
        for part in eval_data.values():
            task.check_labels(part.labels, len(model.config.labels))

    job = Job(
        model=as_trained(model, settings),
        params=params,
        tokenizer=tokenizer,
        data=train_data,
        buckets=buckets_of(data, "valid"),
        planned={bucket: bucket for bucket in buckets_of(data, settings.elimination.count)},
        held_out=watched(settings, eval_data),
        evaluate=_evaluator(settings, eval_data),
    )
    if not teacher:
        return job
    unlabelled = {} if data.labelled_by else eval_examples
    teach = functools.partial(
        _taught,
        job,
        settings,
        teacher,
        eval_data,
        train_read=teacher.reads(train_examples),
        eval_read={name: teacher.reads(part) for name, part in unlabelled.items()},
    )
    return dataclasses.replace(job, teach=teach)


def _encode_parts(
    tokenizer, parts: Mapping[str, Examples], data: DataSettings
) -> dict[str, Encoded]:
    return {name: encode_examples(tokenizer, part, data) for name, part in parts.items()}


def _check_head(own: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Refuses a model to start from whose head has the data's classes in another order."""
    if labels != own and sorted(labels) == sorted(own):
        raise SettingsError(
            f"the head of config.model.source has the classes {own}, the data {labels}: set "
            f"config.data.labels to the head's, or its classes would be swapped."
        )


def _taught(
    job: Job,
    settings: Settings,
    teacher: Teacher,
    eval_data: Mapping[str, Encoded],
    train_read: Encoded,
    eval_read: Mapping[str, Encoded],
) -> Job:
    """The job with the teacher's answers as labels, those of evaluation, too, if none were read.

    Args:
      train_read, eval_read: what the teacher answers to, as token ids of its own.
    """
    learned = dataclasses.replace(job.data, labels=teacher.teaches(train_read))
    if eval_read:
        eval_data = {
            name: dataclasses.replace(part, labels=teacher.answers(eval_read[name]))
            for name, part in eval_data.items()
        }
    return dataclasses.replace(
        job,
        data=learned,
        held_out=watched(settings, eval_data),
        evaluate=_evaluator(settings, eval_data),
    )


def evaluator(settings: Settings, model: Model, tokenizer) -> Callable:
    """`evaluate` of (model, params) that were trained with these settings."""
    # The model's labels: what the data's own would be today may be in another order.
    labels = model.config.labels if model.record.labels == "class" else ()
    data = dataclasses.replace(settings.data, labels=labels)
    parts = load_examples(data, model.record, settings.seed)[1]
    eval_data = _encode_parts(tokenizer, parts, data)
    if not data.labelled_by:
        teacher = load_teacher(settings)
        eval_data = {
            name: dataclasses.replace(part, labels=teacher.answers(teacher.reads(parts[name])))
            for name, part in eval_data.items()
        }
    return _evaluator(settings, eval_data)


def _evaluator(settings: Settings, parts: Mapping[str, Encoded]) -> Callable:
    count = settings.elimination.count
    return functools.partial(
        evaluate,
        parts=parts,
        alphas=settings.eval.alphas,
        settings=settings.eval,
        buckets=buckets_of(settings.data, count),
        count=count,
        unit="examples" if settings.data.labelled_by else f"texts as {settings.teacher} answers",
    )
