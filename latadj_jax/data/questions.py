"""Questions about texts, whose answers are spans of them: SQuAD's files, JSON lines, the hub."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.checks import is_integer
from latadj_jax.data.encoded import Encoded
from latadj_jax.data.labelled_examples import Examples, chosen
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tables import Table, hub_tables, local_tables
from latadj_jax.errors import DataError
from latadj_jax.pretrained.question_windows import Windows, encode_in_windows
from latadj_jax.tasks.task import Task

log = logging.getLogger(__name__)

CLS = (0, 0)  # the span of a window without the answer


class Answer(NamedTuple):
    """An answer, and where it begins in its context; -1 where it does not occur there."""

    text: str
    start: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EncodedQuestions(Encoded):
    """Windows of contexts as examples; their labels [W, 2] are the first and last token of the
    answer, or CLS where a window has none, or -1 where nobody labelled."""

    windows: Windows


def load_questions(
    data: DataSettings, task: Task, seed: int = 0
) -> tuple[Examples, dict[str, Examples], tuple[str, ...]]:
    """Training questions, evaluation questions by name, and (): no names of labels.

    Texts are pairs of question and context, the `text_columns` in this order; labels (object [N])
    are a tuple of `Answer` each, () of a question without an answer, or None where nobody labelled.
    Answers, in `data.labelled_by`, are objects with "text" and "answer_start", or one object with a
    list of each, as on the hub. Of one single file whole contexts are held out.

    One that is not at its place is taken at the nearest place where it occurs; a question to train
    on whose answers occur nowhere is left out. Both are counted in a warning.

    Raises:
      DataError, SourceError: a file, column, text or answer that is missing or broken.
    """
    columns = (data.path and data.local_text_columns) or data.text_columns
    if len(columns) != 2:
        raise DataError(
            f"a question and its context are two columns; config.data.text_columns is {columns}: "
            f"set it to ('question', 'context')."
        )
    train_table, eval_tables, _ = local_tables(data) if data.path else hub_tables(data)
    train = _questions(train_table)
    evals = {name: _questions(table) for name, table in eval_tables.items()}
    # A context has several questions, and none of them may be trained on where one is a test.
    train, evals = chosen(train_table.name, train, evals, data, seed, apart=slice(1, None))
    there = [n for n, answers in enumerate(train.labels) if not _is_nowhere(answers)]
    if not there:
        raise DataError(f"{train_table.name}: no answer occurs in its context.")
    return train.subset(there), evals, ()


def _is_nowhere(answers: Sequence[Answer] | None) -> bool:
    return bool(answers) and all(answer.start < 0 for answer in answers)


def _questions(table: Table) -> Examples:
    labels = np.empty(len(table.texts), object)
    moved, missing, left_out = [], [], []
    for n, (row, (question, context)) in enumerate(zip(table.rows, table.texts, strict=True)):
        where = f"{table.name}, row {row}"
        for what, text in (("question", question), ("context", context)):
            if not text.strip():
                raise DataError(f"{where}: the {what} is empty; remove the row.")
        if table.labels is None:
            continue
        answers = _answers(where, table.labels[n])
        labels[n] = tuple(Answer(text, _place(context, text, at)) for text, at in answers)
        for answer, (_, at) in zip(labels[n], answers, strict=True):
            if answer.start != at:
                (moved if answer.start >= 0 else missing).append(row)
        if _is_nowhere(labels[n]):
            left_out.append(row)
    if moved:
        log.warning(
            "%s: %d answers are not at their place in their context, that of %s the first; "
            "each is taken at the nearest place where it occurs.", table.name, len(moved), moved[0],
        )  # fmt: skip
    if missing:
        log.warning(
            "%s: %d answers occur nowhere in their context, that of %s the first; %d questions "
            "with no other answer are not trained on.",
            table.name, len(missing), missing[0], len(left_out),
        )  # fmt: skip
    return Examples(table.texts, labels)


def _answers(where: str, value: Any) -> list[Answer]:
    """The answers as they were written."""
    if isinstance(value, dict) and {"text", "answer_start"} <= set(value):
        texts, starts = list(value["text"]), list(value["answer_start"])
        if len(texts) != len(starts):
            raise DataError(f"{where}: {len(texts)} answers begin at {len(starts)} places.")
    elif isinstance(value, (list, tuple)) and all(
        isinstance(a, dict) and {"text", "answer_start"} <= set(a) for a in value
    ):
        texts, starts = [a["text"] for a in value], [a["answer_start"] for a in value]
    else:
        raise DataError(
            f"{where}: answers must be a list of objects with 'text' and 'answer_start'; they are "
            f"{value!r}."
        )
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{where}: the answer {text!r} is no text; a question without an answer has an "
                f"empty list."
            )
        if not is_integer(start):
            raise DataError(f"{where}: answer_start {start!r} is not a number of characters.")
    return [Answer(text, start) for text, start in zip(texts, starts, strict=True)]


def _place(context: str, answer: str, start: int) -> int:
    """Where the answer begins: at `start`, or at the nearest place where it occurs; or -1."""
    if start >= 0 and context.startswith(answer, start):
        return start
    places, at = [], context.find(answer)
    while at >= 0:
        places.append(at)
        at = context.find(answer, at + 1)
    return min(places, key=lambda place: abs(place - start), default=-1)


def encode_questions(tokenizer, questions: Examples, data: DataSettings) -> EncodedQuestions:
    """Windows of at most `data.max_length` tokens that share `data.stride`."""
    windows = encode_in_windows(
        tokenizer, questions.texts, data.max_length, data.stride,
        lambda n: f"the question {questions.texts[n][0][:40]!r}",
    )  # fmt: skip
    answers = [questions.labels[n] for n in windows.questions]
    pairs = zip(answers, windows.offsets, strict=True)
    labels = np.array([_span(*pair) for pair in pairs], np.int32).reshape(-1, 2)
    return EncodedQuestions(windows.examples, labels, windows=windows)


def _span(answers: Sequence[Answer] | None, offsets_T2: np.ndarray) -> tuple[int, int]:
    """The first and last token of the first answer that has a place, where the window holds it."""
    if answers is None:
        return -1, -1
    answer = next((answer for answer in answers if answer.start >= 0), None)
    inside = np.flatnonzero(offsets_T2[:, 0] >= 0)
    if answer is None:
        return CLS
    starts, ends = offsets_T2[inside].T
    end = answer.start + len(answer.text)
    if not (starts[0] <= answer.start and end <= ends[-1]):
        return CLS
    first = inside[np.flatnonzero(starts <= answer.start)[-1]]
    last = inside[np.flatnonzero(ends >= end)[0]]
    return int(first), int(last)
