"""Labelled texts, from local files or the Hugging Face hub."""

import contextlib
import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latadj_jax.data.settings import DataSettings
from latadj_jax.data.tables import Table, hub_tables, local_tables
from latadj_jax.errors import DataError
from latadj_jax.pretrained import sources
from latadj_jax.pretrained.tokenizers import without_surrogates
from latadj_jax.tasks.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Examples:
    """N texts (or pairs) and their labels [N].

    They are int32 class ids; float32 numbers, of a regression, a relevance or a likeness; float32
    [N, C] of several classes, 1 where one holds, or of a teacher's logits; the target texts of
    "seq2seq" (object); or, of texts that are lists of words, the tags of each, int32 [words]
    (object). NaN where nobody labelled them.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> "Examples":
        return Examples([self.texts[i] for i in indices], self.labels[np.asarray(indices, int)])


def load_examples(
    data: DataSettings, task: Task, seed: int = 0
) -> tuple[Examples, dict[str, Examples], tuple[str, ...]]:
    """Training examples, evaluation examples by name, and the names of the classes.

    Local data (`data.path`) is a folder, or one file that is split here: the held-out part, named
    "test", is the same for the same rows whatever their order and the seed, keeps the shares of
    the labels, and shares no text with the training part, up to case and white space. Labels are
    ids or names, several of them with `data.label_separator` between; without `data.labels` the
    names are the sorted ones of the training data.
    `seed` draws the `max_train_examples`; the `max_eval_examples` are always the same ones.
    What has no labels, with `data.teacher`, has NaN; the names are then to be in `data.labels`.

    Raises:
      DataError, SourceError: a file, column, field, text or label that is missing or broken.
    """
    train_table, eval_tables, names = local_tables(data) if data.path else hub_tables(data)
    if not task.labels:
        raise DataError(f"a model of task {task.name!r} does not learn from labelled texts.")
    several = task.labels == "classes"
    needed = task.labels == "text" or (task.named and not names)
    if train_table.labels is None and needed:
        raise DataError(
            f"{task.name} needs labels, but {train_table.name} is read without: set "
            f"config.data.label_column."
        )
    if several:
        train_table = _split_labels(train_table, data.label_separator)
        eval_tables = {
            name: _split_labels(table, data.label_separator) for name, table in eval_tables.items()
        }
    else:
        for table in (train_table, *eval_tables.values()):
            _check_one_value(table)
    names = (names or _label_names(train_table, several)) if task.named else ()

    def examples(table: Table) -> Examples:
        if table.labels is None:  # for a teacher to say
            return Examples(table.texts, np.full(len(table.texts), np.nan, np.float32))
        if names:
            read = _several_classes if several else _class_ids
            return Examples(table.texts, read(table, names))
        read = _target_texts if task.labels == "text" else _targets
        return Examples(table.texts, read(table))

    train = examples(train_table)
    evals = {name: examples(table) for name, table in eval_tables.items()}
    stratified = task.labels == "class" and train_table.labels is not None
    of_query = slice(0, 1) if task.reads_pairs else None  # all candidates of one, or none
    train, evals = chosen(train_table.name, train, evals, data, seed, stratified, of_query, True)
    return train, evals, tuple(names)


def chosen(
    name: str,
    train: Examples,
    evals: Mapping[str, Examples],
    data: DataSettings,
    seed: int,
    stratified: bool = False,
    apart: slice | None = None,
    whole: bool = False,
) -> tuple[Examples, dict[str, Examples]]:
    """The examples that are trained and evaluated on: of one single file, named `name`, a part is
    held out; and there are no more than `data` says.

    Args:
      apart: those of an example's texts that no example of the held-out part shares; None is all.
      whole: whether examples that share these are drawn together, where `apart` is given.
    """
    evals = dict(evals)
    if data.path and sources.local_path(data.path).is_file():
        part = slice(None) if apart is None else apart
        train, evals["test"] = _hold_out(train, data.eval_fraction, stratified, part)
    apart = apart if whole else None
    train = _sample(train, data.max_train_examples, seed, apart)
    # Drawn, not evenly spaced: a file that alternates its labels would give one label only.
    evals = {name: _sample(part, data.max_eval_examples, 0, apart) for name, part in evals.items()}
    sizes = ", ".join(f"{name} {len(part)}" for name, part in evals.items())
    log.info("%s: train %d, %s", name, len(train), sizes)
    return train, evals


def _split_labels(table: Table, separator: str) -> Table:
    """The labels of each row as a list: of a JSON array, or of text with separators."""
    if table.labels is None:
        return table

    def listed(value) -> list:
        if isinstance(value, (list, tuple)):
            return list(value)
        text = _label_key(value)
        if text.startswith("["):  # a JSON array in a cell
            with contextlib.suppress(ValueError):
                return list(json.loads(text))
        return [part for part in map(str.strip, text.split(separator)) if part]

    return table._replace(labels=[listed(value) for value in table.labels])


def _check_one_value(table: Table) -> None:
    for row, value in zip(table.rows, table.labels or (), strict=table.labels is not None):
        if isinstance(value, (list, dict)):
            raise DataError(
                f"{table.name}, row {row}: label {value!r} is not one value; several "
                f"are for task 'multi-label'."
            )


def _label_names(table: Table, several: bool = False) -> tuple[str, ...]:
    rows = table.labels if several else [[label] for label in table.labels]
    names = {_label_key(label) for labels in rows for label in labels}
    if "" in names:
        row = next(
            r for r, labels in zip(table.rows, rows, strict=True) if "" in map(_label_key, labels)
        )
        raise DataError(f"{table.name}, row {row}: the label is empty.")
    if len(names) < 2:
        every = repr(names.pop()) if names else "missing"
        raise DataError(f"{table.name}: every label is {every}; two or more are needed.")
    if all(_is_number(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _class_ids(table: Table, names: Sequence[str]) -> np.ndarray:
    id_of = _reader_of_ids(table, names)
    labels = zip(table.rows, table.labels, strict=True)
    return np.array([id_of(row, label) for row, label in labels], np.int32)


def _several_classes(table: Table, names: Sequence[str]) -> np.ndarray:
    """float32 [N, C]: 1 for each label that a text has; there may be none."""
    id_of = _reader_of_ids(table, names)
    holds_NC = np.zeros((len(table.labels), len(names)), np.float32)
    for n, (row, labels) in enumerate(zip(table.rows, table.labels, strict=True)):
        holds_NC[n, [id_of(row, label) for label in labels]] = 1
    return holds_NC


def _reader_of_ids(table: Table, names: Sequence[str]) -> Callable[[int, Any], int]:
    """Function of (row, label as it was written) that gives the id of its class."""
    ids = {} if table.ids else {_label_key(name): i for i, name in enumerate(names)}
    # Where names are numbers themselves, as in 1..5 stars, a number in a file is a name, not an id.
    if table.ids or not any(_is_number(name) for name in names):
        ids |= {str(i): i for i in range(len(names))}
    of_bool = {name.casefold(): _label_key(name) for name in names}

    def id_of(row: int, value: Any) -> int:
        key = _label_key(value)
        if isinstance(value, bool):  # the class of that name, if there is one, before that id
            key = of_bool.get(str(value).casefold(), key)
        if key not in ids:
            allowed = ", ".join(f"{name} ({i})" for i, name in enumerate(names))
            hint = "; splits without labels hold -1" if key == "-1" else ""
            raise DataError(
                f"{table.name}, row {row}: label {value!r} is not one of {allowed}{hint}."
            )
        return ids[key]

    return id_of


def _label_key(value: Any) -> str:
    """One spelling for 1, 1.0, "1", "1.0" and True; "01" is another label."""
    if value is None or value != value:  # NaN, where a number is missing
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    text = str(value).strip()
    whole = re.fullmatch(r"(-?(?:0|[1-9][0-9]*))\.0+", text)
    return whole[1] if whole else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _targets(table: Table) -> np.ndarray:
    for row, value in zip(table.rows, table.labels, strict=True):
        if not _is_number(str(value)):
            raise DataError(f"{table.name}, row {row}: label {value!r} is not a finite number.")
    return np.array([float(value) for value in table.labels], np.float32)


def _target_texts(table: Table) -> np.ndarray:
    for row, value in zip(table.rows, table.labels, strict=True):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{table.name}, row {row}: the target {value!r} is no text.")
    return np.array([without_surrogates(text) for text in table.labels], object)


def _hold_out(
    examples: Examples, fraction: float, stratified: bool, apart: slice
) -> tuple[Examples, Examples]:
    groups: dict[str, list[int]] = {}
    for i, texts in enumerate(examples.texts):
        key = "\0".join(sorted(" ".join(text.casefold().split()) for text in texts[apart]))
        groups.setdefault(key, []).append(i)
    strata = examples.labels if stratified else np.zeros(len(examples), np.int32)
    labels, counts = np.unique(strata, return_counts=True)
    places = np.minimum(np.round(fraction * counts), counts - 1).astype(int)
    # Of many small classes all shares may round to 0: some classes then give one example each.
    missing = round(fraction * len(examples)) - places.sum()
    open_to_more = np.flatnonzero(places < counts - 1)
    neediest = np.argsort((places - fraction * counts)[open_to_more], kind="stable")
    places[open_to_more[neediest[: max(missing, 0)]]] += 1
    open_places = dict(zip(labels, places, strict=True))
    held_out = []
    # A hash orders alike whatever the order of the file. Texts that occur once go first, so that
    # no text counts many times in the test.
    for key in sorted(groups, key=lambda k: (len(groups[k]), hashlib.sha256(k.encode()).digest())):
        label = strata[groups[key]].min()
        if len(groups[key]) <= open_places[label]:
            open_places[label] -= len(groups[key])
            held_out += groups[key]
    if not held_out:
        raise DataError(f"{len(examples)} examples are too few to hold out a {fraction} share.")
    kept = np.setdiff1d(np.arange(len(examples)), held_out)
    return examples.subset(kept), examples.subset(np.sort(held_out))


def _sample(examples: Examples, limit: int, seed: int, together: slice | None) -> Examples:
    """At most `limit` of them; those that share these of their texts all or none."""
    if not 0 < limit < len(examples):
        return examples
    rng = np.random.default_rng(seed)
    if together is None:
        return examples.subset(np.sort(rng.choice(len(examples), limit, replace=False)))
    groups: dict[tuple[str, ...], list[int]] = {}
    for n, texts in enumerate(examples.texts):
        groups.setdefault(texts[together], []).append(n)
    members, drawn = [*groups.values()], []
    for n in rng.permutation(len(members)):
        if len(drawn) + len(members[n]) <= limit:
            drawn += members[n]
    return examples.subset(sorted(drawn or members[0]))
