"""Lines of a file or of standard input, each answered with a row of an engine's."""

import io
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TextIO

import numpy as np

from latadj_jax.errors import TextError
from latadj_jax.serving.engine import Engine


def lines_of(path: str | None) -> TextIO:
    """Of the file, or of standard input; a broken byte becomes U+FFFD, as in training."""
    if path:
        return open(path, encoding="utf-8-sig", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")
    return sys.stdin


def rows_of(
    engine: Engine, lines: Iterable[str], at_once: int, **asked
) -> Iterator[np.ndarray | None]:
    """The engine's row for each line, `at_once` at a time; None for an empty line.

    Args:
      asked: as the engine has it.

    Raises:
      ValueError: a line that cannot be answered, by its number (from 1).
    """
    lines, before = iter(lines), 0
    while some := [line.strip() for line in islice(lines, at_once)]:
        full = [n for n, line in enumerate(some) if line]
        rows: list[np.ndarray | None] = [None] * len(some)
        try:
            found = engine([some[n] for n in full], **asked)
        except TextError as error:
            line = before + full[error.number] + 1
            raise ValueError(f"line {line} {error.what}") from None
        for n, row in zip(full, found, strict=True):
            rows[n] = row
        yield from rows
        before += len(some)
