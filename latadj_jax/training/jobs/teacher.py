"""Labels from a teacher: what a fine-tuned model answers densely, in place of what people wrote.

Source: Hinton, Vinyals and Dean, arXiv 1503.02531.
"""

import dataclasses
from pathlib import Path

import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.data.encoded import Encoded, buckets_of
from latadj_jax.data.labelled_examples import Examples
from latadj_jax.errors import ConfigError, SettingsError
from latadj_jax.evaluation.evaluate import outputs_of
from latadj_jax.families.hf_config import label_names
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.sources import resolve
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.features import FEATURES
from latadj_jax.tasks.registry import TASKS as EVERY_TASK
from latadj_jax.training.jobs.readers import reader_of
from latadj_jax.training.settings import Settings


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A fine-tuned model, with a tokenizer of its own.

    What it says of texts is computed by all processes of a run together.
    """

    model: Model
    params: dict
    tokenizer: object
    settings: Settings

    def classes(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The names of its classes, or `wanted` where they have no names, only numbers."""
        own = self.model.config.labels
        unnamed = own == label_names(len(own)) and len(wanted) == len(own)
        if wanted in ((), own) or unnamed:
            return wanted or own
        raise SettingsError(
            f"config.data.labels is {wanted}, but the teacher has {own}: name them as it does, in "
            f"its order, or not at all."
        )

    def check_pupil(self, labels: tuple[str, ...]) -> None:
        """Refuses a model to start from whose head has the same classes in another order."""
        own = self.model.config.labels
        if labels != own and sorted(labels) == sorted(own):
            raise SettingsError(
                f"config.model.source has the classes {labels}, the teacher {own}: put one of them "
                f"in the order of the other."
            )

    def reads(self, examples: Examples) -> Encoded:
        """The texts as token ids of its own."""
        reader = reader_of(self.model.record)
        read = reader.encode(self.tokenizer, examples, self.settings.data, self.model)
        check_ids(read.one_by_one.examples, self.model.input_ranges)
        return read

    def teaches(self, read: Encoded) -> np.ndarray:
        """What is to be learned, float32 [N, ...]: its logits, values or embeddings."""
        return self.model.record.teaches(self._rows(read))

    def answers(self, read: Encoded) -> np.ndarray:
        """Its class ids [N], int32, or what else stands for labels."""
        return self.model.record.predictions(self._rows(read))

    def _rows(self, read: Encoded) -> np.ndarray:
        plans = {n: self.model.plan(None, n) for n in buckets_of(self.settings.data, "valid")}
        batch_size = self.settings.eval.batch_size
        texts = read.one_by_one
        rows = outputs_of(self.model, self.params, texts, plans, batch_size, "teacher")
        if len(texts.examples) > len(read.examples):  # of pairs, read one by one
            rows = rows.reshape(len(read.examples), -1, rows.shape[-1])
        finite_N = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not finite_N.all():
            raise ValueError(
                f"{self.settings.teacher!r} answers {rows[finite_N.argmin()].tolist()} to "
                f"example {finite_N.argmin()} (from 0): a broken model cannot teach."
            )
        return rows


def load_teacher(settings: Settings) -> Teacher:
    """The model that `settings.teacher` names.

    Raises:
      ValueError: it cannot be had, has no head for the task, or too few positions.
    """
    source, task = settings.teacher, settings.model.task
    if resolve(source).resolve() == (Path(settings.workdir) / "model").resolve():
        raise SettingsError(
            f"{source!r} would be overwritten by the run that it teaches; name another "
            f"config.workdir."
        )
    try:
        model, params = read_for(source, task, settings.model.strict)
    except ConfigError as error:
        raise SettingsError(
            f"{source!r} cannot answer in place of labels ({str(error).rstrip('.')}): name a "
            f"fine-tuned one as config.data.teacher, or config.data.label_column."
        ) from None
    if model.task != task:
        raise SettingsError(
            f"{source!r} is a model for {model.task}, not for {task}, and cannot answer in place "
            f"of labels: name a fine-tuned one as config.data.teacher, or config.data.label_column."
        )
    if model.record.labels == "value" and len(model.config.labels) != 1:
        raise SettingsError(f"{source!r} has {len(model.config.labels)} outputs; one is wanted.")
    length = settings.data.max_length
    what = f"config.data.max_length is {length}"
    check_fits(length, model.config.max_positions, what, "lower it", "the teacher", SettingsError)
    return Teacher(model, params, load_tokenizer(source), settings)


def read_for(source: str, task: str, strict: bool):
    """Model and parameters of a finished model: for `task` if it can be without a new head, else
    for its own. A ranker's files may not say that it is one, and every base model embeds."""
    model, params = from_pretrained(source, strict=strict)
    own, wanted = model.record, EVERY_TASK[task]
    if (own.head == wanted.head and wanted.any_labels) or (own is FEATURES and wanted is EMBEDDING):
        return from_pretrained(source, task, strict=strict)
    return model, params
