"""Labels from a teacher: what a fine-tuned model answers densely, in place of what people wrote.

Source: Hinton, Vinyals and Dean, arXiv 1503.02531.
"""

import dataclasses

import numpy as np

from latadj_jax import tasks
from latadj_jax.api import from_pretrained
from latadj_jax.batch import check_ids
from latadj_jax.evaluation import buckets_of, encoded, logits_of
from latadj_jax.model import Model
from latadj_jax.settings import Settings, SettingsError
from latadj_jax.text import Examples, load_tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A fine-tuned model with a tokenizer of its own."""

    model: Model
    params: dict
    tokenizer: object

    def labels(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The names of its classes; SettingsError where others are wanted, or in another order."""
        own = self.model.config.labels
        if wanted not in ((), own):
            raise SettingsError(f"config.data.labels is {wanted}, but the teacher has {own}.")
        return own

    def teaches(self, examples: Examples, settings: Settings) -> Examples:
        """The same texts with its logits [N, C] to be learned; of a regression its values [N]."""
        logits_NC = self._logits(examples, settings)
        return Examples(
            examples.texts, logits_NC[:, 0] if self.model.task == "regression" else logits_NC
        )

    def answers(self, examples: Examples, settings: Settings) -> Examples:
        """The same texts with its class ids or values [N] as their labels."""
        predicted = tasks.predictions(self.model.task, self._logits(examples, settings))
        kind = np.float32 if self.model.task == "regression" else np.int32
        return Examples(examples.texts, predicted.astype(kind))

    def _logits(self, examples: Examples, settings: Settings) -> np.ndarray:
        data = encoded(self.tokenizer, examples, settings.data)
        check_ids(data.examples, self.model.module.input_ranges(self.model.config))
        plans = {n: self.model.plan(None, n) for n in buckets_of(settings.data, "valid")}
        batch_size = settings.eval.batch_size
        return logits_of(self.model, self.params, data, plans, batch_size, "teacher")


def load_teacher(settings: Settings) -> Teacher:
    """The model that `settings.teacher` names.

    Raises:
      ValueError: it cannot be had, has no head for the task, or too few positions.
    """
    source, task = settings.teacher, settings.model.task
    model, params = from_pretrained(source)
    if model.task != task:
        raise SettingsError(
            f"{source!r} is a model for {model.task}, not for {task}, and cannot answer in place "
            f"of labels: name a fine-tuned one as config.data.teacher, or config.data.label_column."
        )
    if model.config.max_positions < settings.data.max_length:
        raise SettingsError(
            f"config.data.max_length is {settings.data.max_length}, the teacher has "
            f"{model.config.max_positions} positions; lower it."
        )
    return Teacher(model, params, load_tokenizer(source))
