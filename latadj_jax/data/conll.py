"""Words with tags as CoNLL's shared tasks write them: a word in each line, its tag in a column.

    EU      B-ORG
    rejects O

A blank line ends a text. There is a tab between the columns, or spaces.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from latadj_jax.data.tables import check_columns, lines_of
from latadj_jax.errors import DataError

FIRST, LAST = "first", "last"  # where no setting names a column


class TaggedText(NamedTuple):
    """The words of a text, their tags as they were written, if any, and the row of each."""

    words: tuple[str, ...]
    tags: tuple[Any, ...] | None
    rows: tuple[int, ...]  # what errors call each word: from 1; on the hub that of the text, from 0


def read_conll(name: str, text: str, word_column: str, tag_column: str) -> list[TaggedText]:
    """The texts of a file.

    Lines of -DOCSTART- are left out, and so are those that begin with "# " and have not as many
    columns as the others: they are comments, but "#" may be a word.

    Args:
      name: of the file, for errors.
      word_column, tag_column: a number (from 0), FIRST or LAST, or a name in the first line, which
        then is a header. Without a tag column, "", the texts have no tags.

    Raises:
      DataError: the row whose columns are not as many as above, or whose word is empty; a column
        that is not there.
    """
    lines = [
        (row, line)
        for row, line in enumerate(lines_of(text), 1)
        if not line.startswith("-DOCSTART-")
    ]
    # The first line of a token says what the others look like; comments may come before it.
    full = [(row, line) for row, line in lines if line.strip()]
    first_row, first = next(
        (numbered for numbered in full if not numbered[1].startswith("#")), (full or [(0, "")])[0]
    )
    tabs = "\t" in first
    width = len(_fields(first, tabs))
    pick = _picker(name, _fields(first, tabs), word_column, tag_column)
    header_row = 0 if _are_places(word_column, tag_column) else first_row

    found, tokens = [], []
    for row, line in (*lines, (0, "")):
        if not line.strip():
            if tokens:
                rows, words, tags = zip(*tokens, strict=True)
                found.append(TaggedText(words, tags if tag_column else None, rows))
            tokens = []
        elif row != header_row and not _is_comment(line, tabs, width):
            fields = _fields(line, tabs)
            if len(fields) != width:
                raise DataError(
                    f"{name}, row {row}: {len(fields)} columns, not {width} as in row {first_row}."
                )
            word, tag = pick(fields)
            if not word:
                raise DataError(f"{name}, row {row}: the word is empty; remove the row.")
            tokens.append((row, word, tag))
    return found


def _fields(line: str, tabs: bool) -> list[str]:
    # Not split(): a word may be a space of another kind.
    return [f.strip(" ") for f in line.split("\t")] if tabs else re.split(" +", line.strip(" "))


def _is_comment(line: str, tabs: bool, width: int) -> bool:
    return line.startswith("# ") and len(line.split("\t" if tabs else " ")) != width


def _are_places(*columns: str) -> bool:
    return all(column in ("", FIRST, LAST) or column.isdecimal() for column in columns)


def _picker(
    name: str, fields: list[str], word_column: str, tag_column: str
) -> Callable[[list[str]], tuple[str, str]]:
    """Function of a line's columns that gives the word and its tag, "" without a tag column.

    Args:
      fields: of the first line.
    """
    if tag_column == LAST and len(fields) == 1 and fields[0]:
        raise DataError(
            f"{name} has words and no tags: it needs a second column, or a teacher's answers "
            f"(--config.data.label_column= and --config.data.teacher=MODEL)."
        )
    numbers = [str(n) for n in range(len(fields))]
    present = numbers if _are_places(word_column, tag_column) else fields
    ends = {FIRST: present[0], LAST: present[-1]}
    wanted = [ends.get(column, column) for column in (word_column, tag_column) if column]
    check_columns(name, wanted, present, "local_")
    places = [present.index(column) for column in wanted]
    return lambda fields: (fields[places[0]], fields[places[1]] if tag_column else "")
