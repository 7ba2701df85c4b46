"""Running text for causal language models: from files or the hub to a stream of token ids."""

import pathlib
from collections.abc import Sequence

from latadj_jax.data.hub import load_split
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.text_files import a_string, json_records, local_files, read_text
from latadj_jax.errors import DataError


def load_corpus(data: DataSettings) -> tuple[str, dict[str, str]]:
    """The training text, and the evaluation texts by name (file stem, or split on the hub).

    `data.path` is a folder with `train_file` and `eval_files`, or one file whose last
    `eval_fraction`, cut at a line end, is the evaluation text "test"; without a path the data set
    is had from the hub. A .json or .jsonl file has an array of objects or one a line, with the text
    in its first text column. Texts of a data set or of such a file that all end in a line end are
    lines, as in WikiText, and are joined as they are; others are documents, with a blank line
    between.

    Raises:
      DataError, SourceError: what is missing or cannot be read, and where.
    """
    if not data.path:
        return _hub_corpus(data)
    train_file, *eval_files = local_files(data)
    train = _read_file(train_file, data)
    if not eval_files:
        train, test = _split(train_file.name, train, data.eval_fraction)
        return train, {"test": test}
    return train, {file.stem: _read_file(file, data) for file in eval_files}


def _hub_corpus(data: DataSettings) -> tuple[str, dict[str, str]]:
    texts = []
    column = data.text_columns[0]
    for split in (data.train_split, *data.eval_splits):
        where, loaded = load_split(data, split)
        if column not in loaded.column_names:
            raise _no_column(where, column, loaded.column_names, "")
        rows = (a_string(f"{where}, row {i}", text) for i, text in enumerate(loaded[column][:]))
        texts.append(_join(where, list(rows)))
    return texts[0], dict(zip(data.eval_splits, texts[1:], strict=True))


def _read_file(path: pathlib.Path, data: DataSettings) -> str:
    suffix = path.suffix.lower()
    if suffix in (".tsv", ".csv"):
        raise DataError(f"{path} is no running text; make it .txt, or .jsonl with a text column.")
    text = read_text(path)
    if suffix not in (".json", ".jsonl"):
        return text
    column, texts = (data.local_text_columns or data.text_columns)[0], []
    for row, record in json_records(path.name, text):
        where = f"{path.name}, row {row}"
        if column not in record:
            raise _no_column(where, column, record, "local_")
        texts.append(a_string(where, record[column]))
    return _join(path.name, texts)


def _no_column(where: str, column: str, present: Sequence[str], prefix: str) -> DataError:
    return DataError(
        f"{where} has no column {column!r}; it has: {', '.join(present)}. "
        f"Set config.data.{prefix}text_columns."
    )


def _join(where: str, texts: Sequence[str]) -> str:
    are_lines = all(text.endswith("\n") for text in texts if text)
    joined = ("" if are_lines else "\n\n").join(texts)
    if not joined.strip():
        raise DataError(f"{where} holds no text.")
    return joined


def _split(name: str, text: str, fraction: float) -> tuple[str, str]:
    """Cut at the last line end before the held-out share, so that it is never less."""
    cut = text.rfind("\n", 0, round(len(text) * (1 - fraction))) + 1
    train, test = text[:cut], text[cut:]
    if not (train.strip() and test.strip()):
        raise DataError(f"{name} has too few lines to hold out a {fraction} share.")
    return train, test
