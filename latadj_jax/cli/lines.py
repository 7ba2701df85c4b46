"""What the commands share that answer each line of a file, or of standard input, with an engine."""

import argparse
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

from latadj_jax.cli import flags
from latadj_jax.errors import TextError
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.tasks.task import Task


def add_flags(parser: flags.Parser):
    """The model, the lines and how fast: the group of flags that say the speed, one at most."""
    parser.add_argument("model", metavar="MODEL", help=flags.MODEL)
    parser.add_argument("--input", type=flags.path, help="the file to read (standard input)")
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths to compile for, e.g. 32,64",
    )  # fmt: skip
    flags.add_reading(parser)
    flags.add_dtype(parser)
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--alpha", type=flags.alpha, default=argparse.SUPPRESS, metavar="A",
        help="speedup coefficient, or dense (the model's own)",
    )  # fmt: skip
    speed.add_argument(
        "--speedup", type=flags.speedup, metavar="X",
        help="expected speedup over dense, at the largest bucket",
    )  # fmt: skip
    return speed


def load_for(args: argparse.Namespace, task: Task, does: str):
    """Model and parameters of the command's task; ValueError if --task names another."""
    asked = args.task or task.name
    model, params = from_pretrained(args.model, asked, dtype=args.dtype, strict=args.strict)
    if model.record is not task:
        raise ValueError(f"a model {does} with task {task.name!r}; --task is {asked!r}.")
    return model, params


def at_speed(args: argparse.Namespace, model: Model) -> Model:
    """The model with the alpha that the flags ask for."""
    if args.speedup is None:
        return model.replace(alpha=getattr(args, "alpha", model.alpha))
    return model.replace(alpha=model.solve_alpha(longest_of(args, model), args.speedup))


def longest_of(args: argparse.Namespace, model: Model) -> int:
    """The largest bucket."""
    return serving_buckets(args.buckets, model.config.max_positions)[-1]


def lines_of(path: str | None) -> TextIO:
    """Of the file, or of standard input; a broken byte becomes U+FFFD, as in training."""
    if path:
        return open(path, encoding="utf-8-sig", errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")
    return sys.stdin


def rows_of(
    engine: Callable[..., Iterable],
    lines: Iterable[str],
    at_once: int,
    text_of: Callable[[str], Any] = str,
    **asked,
) -> Iterator[Any]:
    """The engine's row for each line, `at_once` at a time; None for an empty line.

    Args:
      engine: one, or what it does with a list of texts.
      text_of: what the engine reads of a line; it may raise a TextError.
      asked: as the engine has it.

    Raises:
      ValueError: a line that cannot be answered, by its number (from 1).
    """
    lines, before = iter(lines), 0
    while some := [line.strip() for line in islice(lines, at_once)]:
        full = [n for n, line in enumerate(some) if line]
        rows: list = [None] * len(some)
        texts = []
        try:
            for n in full:
                texts.append(text_of(some[n]))
            found = engine(texts, **asked)
        except TextError as error:
            number = error.number if len(texts) == len(full) else len(texts)
            line = before + full[number] + 1
            raise ValueError(f"line {line} {error.what}") from None
        for n, row in zip(full, found, strict=True):
            rows[n] = row
        yield from rows
        before += len(some)
