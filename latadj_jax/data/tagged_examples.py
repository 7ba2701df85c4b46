"""Texts that are lists of words, each with a tag: CoNLL files, JSON lines, or the hub."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.data.conll import FIRST, LAST, TaggedText, read_conll
from latadj_jax.data.labelled_examples import Examples, chosen
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tables import check_columns, hub_columns, lines_of
from latadj_jax.data.text_files import a_string, decode, json_records, local_files
from latadj_jax.errors import DataError
from latadj_jax.tasks.tags import OUTSIDE
from latadj_jax.tasks.task import Task

log = logging.getLogger(__name__)


class _Source(NamedTuple):
    """The texts of a file, or of a split on the hub."""

    name: str
    texts: list[TaggedText]
    names: tuple[str, ...] = ()  # of the tags, where the data set itself says them

    @property
    def is_tagged(self) -> bool:
        return self.texts[0].tags is not None


def load_tagged(
    data: DataSettings, task: Task, seed: int = 0
) -> tuple[Examples, dict[str, Examples], tuple[str, ...]]:
    """Training examples, evaluation examples by name, and the names of the tags.

    The texts are tuples of words, the labels the ids of their tags, int32 [words] (in an array of
    objects); NaN where a teacher is to answer. Without `data.labels` the names are those of the
    training data, "O" first and the others sorted.

    Local files are JSON lines with a list of words and one of tags, or CoNLL columns (see
    conll.py): the first column is the word and the last the tag, unless `data.local_text_columns`
    and `data.local_label_column` say which. A .txt file that is read without labels and columns has
    a text in each line, whose words have white space between.

    Raises:
      DataError, SourceError: a file, row, column, word or tag that is missing or broken.
    """
    if len(data.text_columns) > 1 or len(data.local_text_columns) > 1:
        raise DataError(f"a text of {task.name} is one column of words, not a pair of texts.")
    sources = _local(data) if data.path else _of_hub(data)
    train, *others = sources.values()
    names = data.labels or train.names
    if not (names or train.is_tagged):
        raise DataError(
            f"{task.name} needs labels, but {train.name} is read without: set "
            f"config.data.label_column."
        )
    names = names or _names(train)
    train_examples = _examples(train, names)
    evals = {key: _examples(of, names) for key, of in zip([*sources][1:], others, strict=True)}
    return *chosen(train.name, train_examples, evals, data, seed), names


def _local(data: DataSettings) -> dict[str, _Source]:
    train_file, *eval_files = local_files(data)
    # One single file is evaluated on, too.
    labelled = bool(data.labelled_by)
    train = _read(train_file, data, labelled and not (data.teacher and eval_files))
    return {"": train, **{file.stem: _read(file, data, labelled) for file in eval_files}}


def _read(path: pathlib.Path, data: DataSettings, labelled: bool) -> _Source:
    text, suffix = decode(path), path.suffix.lower()
    if suffix == ".csv":
        raise DataError(
            f"{path.name}: tags are read from CoNLL columns with a tab or a space between (.conll, "
            f".txt, .tsv, ...) or from JSON lines (.jsonl), not from .csv."
        )
    if suffix in (".jsonl", ".json"):
        words = (data.local_text_columns or data.text_columns)[0]
        columns = (words, data.labelled_by) if labelled else (words,)
        texts = []
        for row, record in json_records(path.name, text):
            where = f"{path.name}, row {row}"
            check_columns(f"{where},", columns, record, "local_")
            texts.append(_of_row(where, row, [record[column] for column in columns]))
    elif suffix == ".txt" and not labelled and not data.local_text_columns:
        texts = [
            TaggedText(tuple(a_string(path.name, line).split()), None, (row,) * len(line.split()))
            for row, line in enumerate(lines_of(text), 1)
            if line.strip()
        ]
    else:
        (word_column,) = data.local_text_columns or (FIRST,)
        tag_column = (data.local_label_column or LAST) if labelled else ""
        texts = read_conll(path.name, text, word_column, tag_column)
    return _Source(path.name, _with_words(path.name, texts))


def _of_hub(data: DataSettings) -> dict[str, _Source]:
    found = {}
    for split in (data.train_split, *data.eval_splits):
        key = split if found else ""
        label = "" if data.teacher and not found else data.label_column
        wanted = (*data.text_columns, label) if label else data.text_columns
        where, _, rows, names = hub_columns(data, split, wanted)
        names = names if label else ()
        texts = [_of_row(f"{where}, row {n}", n, values) for n, values in enumerate(rows)]
        if names:
            texts = [text._replace(tags=_by_name(text.tags, names)) for text in texts]
        found[key] = _Source(where, _with_words(where, texts), names)
    return found


def _by_name(tags: Sequence[Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(names[i] if isinstance(i, int) and 0 <= i < len(names) else i for i in tags)


def _of_row(where: str, row: int, values: Sequence) -> TaggedText:
    """A text from its words (of a text without tags, white space is between them) and its tags."""
    words, *tags = values
    if isinstance(words, str) and not tags:
        words = words.split()
    if not isinstance(words, (list, tuple)):
        raise DataError(f"{where}: the words are no list.")
    words = tuple(a_string(where, word) for word in words)
    for n, word in enumerate(words):
        if not word.strip():
            raise DataError(f"{where}: word {n} (from 0) is empty.")
    if tags and not isinstance(tags[0], (list, tuple)):
        raise DataError(f"{where}: the tags are no list.")
    if tags and len(tags[0]) != len(words):
        raise DataError(f"{where}: {len(words)} words and {len(tags[0])} tags; there must be one "
                        f"for each.")  # fmt: skip
    return TaggedText(words, tuple(tags[0]) if tags else None, (row,) * len(words))


def _with_words(name: str, texts: list[TaggedText]) -> list[TaggedText]:
    full = [text for text in texts if text.words]
    if not full:
        raise DataError(f"{name} holds no examples.")
    if len(full) < len(texts):
        log.warning("%s: %d texts without words were left out.", name, len(texts) - len(full))
    return full


def _names(source: _Source) -> tuple[str, ...]:
    """Of the tags of the training data, "O" first."""
    names = {_name(source, row, tag) for text in source.texts
             for row, tag in zip(text.rows, text.tags, strict=True)}  # fmt: skip
    if len(names) < 2:
        raise DataError(f"{source.name}: every tag is {names.pop()!r}; two or more are needed.")
    return tuple(sorted(names, key=lambda name: (name != OUTSIDE, name)))


def _name(source: _Source, row: int, tag: Any) -> str:
    name = str(tag).strip() if isinstance(tag, (str, int)) else ""
    if not name:
        raise DataError(f"{source.name}, row {row}: the tag {tag!r} is no name.")
    return name


def _examples(source: _Source, names: Sequence[str]) -> Examples:
    texts = [text.words for text in source.texts]
    if not source.is_tagged:  # for a teacher to say
        return Examples(texts, np.full(len(texts), np.nan, np.float32))
    ids = {name: n for n, name in enumerate(names)}
    labels = np.empty(len(texts), object)
    for n, text in enumerate(source.texts):
        labels[n] = np.array(
            [_id(ids, source, row, tag) for row, tag in zip(text.rows, text.tags, strict=True)],
            np.int32,
        )
    return Examples(texts, labels)


def _id(ids: dict[str, int], source: _Source, row: int, tag: Any) -> int:
    name = _name(source, row, tag)
    if name not in ids:
        raise DataError(f"{source.name}, row {row}: tag {name!r} is not one of {', '.join(ids)}.")
    return ids[name]
