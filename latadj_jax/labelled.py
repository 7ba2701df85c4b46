"""A training run on labelled texts: classification or regression."""

import functools

from latadj_jax import tasks
from latadj_jax.api import from_pretrained
from latadj_jax.evaluation import buckets_of, encoded, evaluate
from latadj_jax.job import Job, as_trained
from latadj_jax.settings import Settings
from latadj_jax.text import load_examples, load_tokenizer


def load(settings: Settings) -> Job:
    """The pretrained model with a head for the data's labels, and the examples' token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    data, task = settings.data, settings.model.task
    train_examples, eval_examples, labels = load_examples(data, task, settings.seed)
    tokenizer = load_tokenizer(settings.model.source)
    train_data = encoded(tokenizer, train_examples, data)
    eval_data = {name: encoded(tokenizer, part, data) for name, part in eval_examples.items()}

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
    for part in (train_data, *eval_data.values()):
        tasks.check_labels(task, part.labels, len(model.config.labels))

    count = settings.elimination.count
    buckets = buckets_of(data, count)
    return Job(
        as_trained(model, settings),
        params,
        tokenizer,
        train_data,
        buckets_of(data, "valid"),
        {bucket: bucket for bucket in buckets},
        functools.partial(
            evaluate,
            parts=eval_data,
            alphas=settings.eval.alphas,
            settings=settings.eval,
            buckets=buckets,
            count=count,
        ),
    )
