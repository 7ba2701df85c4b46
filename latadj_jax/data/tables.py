"""Columns of texts and labels, as they stand in local files or in a Hugging Face data set.

Everything here is about finding and parsing; what a label means is for labelled_examples.py to say.
"""

import csv
import io
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from latadj_jax.data.hub import load_split
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.text_files import a_string, decode, json_records, local_files
from latadj_jax.errors import DataError


class Table(NamedTuple):
    """Rows of texts, one or a pair each, and their labels as they were written, if any."""

    name: str
    # What errors call each row: from 1, header included; on the hub from 0; of SQuAD's files an id.
    rows: Sequence[int | str]
    texts: list[tuple[str, ...]]
    labels: list[Any] | None
    ids: bool = False  # the labels are ids for certain, never names


def local_tables(data: DataSettings) -> tuple[Table, dict[str, Table], tuple[str, ...]]:
    """Training table, evaluation tables by file stem (none for one single file), label names.

    Raises:
      DataError, SourceError: what is missing or cannot be parsed, and where.
    """
    train_file, *eval_files = local_files(data)
    # One single file is evaluated on, too.
    train = _read_file(train_file, data, labelled=not (data.teacher and eval_files))
    return train, {file.stem: _read_file(file, data) for file in eval_files}, data.labels


def hub_tables(data: DataSettings) -> tuple[Table, dict[str, Table], tuple[str, ...]]:
    """Training table, evaluation tables by split, label names (from the data set if not set).

    Raises:
      DataError: a data set or split that cannot be had, or a column that it has not.
    """
    names, tables = data.labels, []
    for split in (data.train_split, *data.eval_splits):
        label = "" if data.teacher and not tables else data.label_column
        wanted = (*data.text_columns, label) if label else data.text_columns
        where, size, values, own = hub_columns(data, split, wanted)
        table = _table(where, range(size), values, bool(label))
        if label and own:
            names, table = names or own, _by_name(table, own, names)
        tables.append(table)
    train, *evals = tables
    return train, dict(zip(data.eval_splits, evals, strict=True)), names


def hub_columns(
    data: DataSettings, split: str, wanted: Sequence[str]
) -> tuple[str, int, Iterator[tuple], tuple[str, ...]]:
    """Of a split: what errors call it, its number of rows, the rows of the `wanted` columns, and
    the names of the classes if the last of them holds ids.

    Raises:
      DataError: a data set or split that cannot be had, or a column that it has not.
    """
    where, loaded = load_split(data, split)
    import datasets  # imported by now

    check_columns(where, wanted, loaded.column_names, "")
    feature = loaded.features[wanted[-1]]
    feature = getattr(feature, "feature", feature)  # of a list of classes, that of one
    names = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()
    rows = zip(*(loaded[column][:] for column in wanted), strict=True)
    return where, len(loaded), rows, names


def _by_name(table: Table, own: Sequence[str], names: Sequence[str]) -> Table:
    """The ids of a data set; where it has the wanted `names` in another order, the names."""
    same = {name.casefold(): name for name in names}
    if list(own) == list(names) or {name.casefold() for name in own} != set(same):
        return table._replace(ids=True)

    def named(i):
        if isinstance(i, list):
            return [named(each) for each in i]
        return same[own[i].casefold()] if 0 <= i < len(own) else i

    return table._replace(labels=[named(i) for i in table.labels])


def _read_file(path: pathlib.Path, data: DataSettings, labelled: bool = True) -> Table:
    text = decode(path)
    texts = columns = data.local_text_columns or data.text_columns
    if label := data.labelled_by if labelled else "":
        columns = (*texts, label)
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".json"):
        numbered = []
        for row, record in json_records(path.name, text):
            check_columns(f"{path.name}, row {row},", columns, record, "local_")
            numbered.append((row, [record[column] for column in columns]))
    elif suffix in (".tsv", ".csv") or (suffix == ".txt" and len(columns) > 1):
        comma = suffix == ".csv"
        fields = _fields(path.name, text, "," if comma else "\t", comma or data.local_quoting)
        numbered = list(_pick(path.name, fields, columns, data.local_header))
    elif suffix == ".txt" and len(columns) == 1:
        numbered = [(row, (line,)) for row, line in enumerate(lines_of(text), 1) if line.strip()]
    elif path.suffix.removeprefix(".") in texts:
        numbered = list(enumerate(zip(*_parallel(path, columns), strict=True), 1))
    else:
        raise DataError(
            f"{path} must end in .tsv, .csv, .json or .jsonl, which says how to read it; or in "
            f".txt: a text in each line where there is one column, else tabs between them."
        )
    rows = [row for row, _ in numbered]
    return _table(path.name, rows, (values for _, values in numbered), bool(label))


def lines_of(text: str) -> list[str]:
    """Not splitlines(): texts may hold U+0085 and other characters that it takes for line ends."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _parallel(path: pathlib.Path, columns: Sequence[str]) -> list[list[str]]:
    """The lines of train.en and train.de for columns "en" and "de"."""
    files = [path.with_suffix(f".{column}") for column in columns]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"{path.name} has no file {missing[0].name!r} beside it.")
    lines = [lines_of(decode(file)) for file in files]
    sizes = [len(of_file) for of_file in lines]
    if len(set(sizes)) > 1:
        names = " and ".join(file.name for file in files)
        raise DataError(f"{names} must have equally many lines; they have {sizes}.")
    return lines


def _fields(name: str, text: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    if not quoted:
        for row, line in enumerate(lines_of(text), 1):
            if line:
                yield row, line.split(delimiter)
        return
    row = 0
    csv.field_size_limit(2**31 - 1)  # of the whole process; 131072 is less than a long document
    try:  # strict: a quote that never closes is an error, or it would swallow the rest of the file
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for row, fields in enumerate(reader, 1):
            if fields:
                yield row, fields
    except csv.Error as error:
        raise DataError(f"{name}, row {row + 1}: {error}.") from None


def _pick(
    name: str, rows: Iterator[tuple[int, list[str]]], columns: Sequence[str], header: bool
) -> Iterator[tuple[int, list[str]]]:
    names = None
    for row, fields in rows:
        if names is None:
            names = [f.strip() for f in fields] if header else [str(i) for i in range(len(fields))]
            check_columns(name, columns, names, "local_")
            picks = [names.index(column) for column in columns]
            if twice := [column for column in columns if names.count(column) > 1]:
                raise DataError(f"{name} has more than one column {twice[0]!r}; rename the others.")
            if header:
                continue
        if len(fields) != len(names):
            raise DataError(f"{name}, row {row}: {len(fields)} fields, not {len(names)} as above.")
        yield row, [fields[pick] for pick in picks]


def check_columns(where: str, wanted: Sequence[str], present: Sequence[str], prefix: str) -> None:
    for column in wanted:
        if column not in present:
            raise DataError(
                f"{where} has no column {column!r}; it has: {', '.join(present)}. Set "
                f"config.data.{prefix}text_columns and config.data.{prefix}label_column."
            )


def _table(name: str, rows: Sequence[int], values: Iterable[Sequence], labelled: bool) -> Table:
    table = Table(name, rows, [], [] if labelled else None)
    for row, columns in zip(rows, values, strict=True):
        texts = columns[:-1] if labelled else columns
        texts = tuple(a_string(f"{name}, row {row}", text) for text in texts)
        if not any(text.strip() for text in texts):  # one side of a pair may be empty, as in QQP
            raise DataError(f"{name}, row {row}: the text is empty; remove the row.")
        table.texts.append(texts)
        if labelled:
            table.labels.append(columns[-1])
    if not table.texts:
        raise DataError(f"{name} holds no examples.")
    return table
