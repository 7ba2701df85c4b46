"""A training run on labelled texts: classification or regression."""

import dataclasses
import functools
from collections.abc import Mapping

from latadj_jax import tasks
from latadj_jax.api import from_pretrained
from latadj_jax.batch import check_ids
from latadj_jax.evaluation import buckets_of, encoded, evaluate
from latadj_jax.job import Job, as_trained
from latadj_jax.model import Model
from latadj_jax.settings import Settings
from latadj_jax.teacher import Teacher, load_teacher
from latadj_jax.text import Examples, load_examples, load_tokenizer


def load(settings: Settings) -> Job:
    """The pretrained model with a head for the data's labels, and the examples' token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    data, task = settings.data, settings.model.task
    teacher = load_teacher(settings) if settings.teacher else None
    if teacher and task == "classification":
        data = dataclasses.replace(data, labels=teacher.labels(data.labels))
    train_examples, eval_examples, labels = load_examples(data, task, settings.seed)
    if teacher:
        train_examples = teacher.teaches(train_examples, settings)
        eval_examples = _answered(teacher, eval_examples, settings)
    del teacher  # its memory
    tokenizer = load_tokenizer(settings.model.source)
    train_data = encoded(tokenizer, train_examples, data)
    num_labels = 1 if task == "regression" else len(labels)
    model, params = from_pretrained(
        settings.model.source, task, num_labels, "float32", seed=settings.seed
    )
    if model.config.max_positions < data.max_length:
        raise ValueError(
            f"config.data.max_length is {data.max_length}, the model has "
            f"{model.config.max_positions} positions; lower it."
        )
    model = model.replace(config=model.config.replace(labels=labels or model.config.labels))
    check_ids(train_data.examples, model.module.input_ranges(model.config))
    for part in (train_data, *eval_examples.values()):
        tasks.check_labels(task, part.labels, len(model.config.labels))
    watched = next(iter(eval_examples.values()))
    return Job(
        as_trained(model, settings),
        params,
        tokenizer,
        train_data,
        buckets_of(data, "valid"),
        {bucket: bucket for bucket in buckets_of(data, settings.elimination.count)},
        encoded(tokenizer, watched, data) if settings.train.evaluate_every else None,
        evaluator(settings, model, tokenizer, eval_examples),
    )


def evaluation_data(settings: Settings, model: Model) -> dict[str, Examples]:
    """The evaluation examples by name, for a model that was trained on the settings' data."""
    # The model's labels: what the data's own would be today may be in another order.
    labels = model.config.labels if model.task == "classification" else ()
    data = dataclasses.replace(settings.data, labels=labels)
    examples = load_examples(data, model.task, settings.seed)[1]
    return _answered(None, examples, settings)


def _answered(teacher: Teacher | None, parts: Mapping[str, Examples], settings: Settings):
    """Evaluation examples, answered by the teacher where there is no label column."""
    if settings.data.labelled_by:
        return parts
    teacher = teacher or load_teacher(settings)
    return {name: teacher.answers(part, settings) for name, part in parts.items()}


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
