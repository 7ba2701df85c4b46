"""Flags that several commands have, and the model that they name.

In a help text, brackets at the end hold the default.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from latadj_jax.checks import DTYPES
from latadj_jax.elimination.alpha import parse_alpha
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.training.run_folder import load_settings, model_of, newest_run

MODEL = "a folder, a hub id, or package:NAME/path"


class Parser(argparse.ArgumentParser):
    """Takes no abbreviated flags; what is wrong with them is one sentence, and exit code 1."""

    def __init__(self, prog: str, description: str):
        super().__init__(
            prog=prog, description=description.strip(), allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    def parse_args(self, argv: list[str]) -> argparse.Namespace:
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(f"{unknown[0]!r} is no flag here; {self.prog} --help lists them.")
        return args

    def error(self, message: str):
        sys.exit(f"{self.prog}: {message}")


def path(text: str) -> str:
    """A shell leaves --flag=~/... as it is."""
    return os.path.expanduser(text)


def alpha(text: str) -> float | None:
    try:
        return parse_alpha(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"takes numbers, e.g. 32,64; {text!r} is not one.")
    return int(text)


def positive(text: str) -> int:
    if number(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; it is {text!r}.")
    return int(text)


def speedup(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"takes numbers, e.g. 1.5,2; {text!r} is not one."
        ) from None


def several(kind: Callable) -> Callable[[str], tuple]:
    """The type of a flag that takes one or more, with commas between."""
    return lambda text: tuple(kind(one) for one in text.split(",") if one.strip())


def add_alphas(parser: Parser, of: str) -> None:
    """--alpha and --speedup; `of` says at what length, or over which texts, a speedup is meant."""
    parser.add_argument(
        "--alpha", type=several(alpha), default=(), metavar="A[,A]",
        help="speedup coefficients, e.g. 0.8,0.9; dense is always added (the model's own)",
    )  # fmt: skip
    parser.add_argument(
        "--speedup", type=several(speedup), default=(), metavar="X[,X]",
        help=f"expected speedups over dense, {of}; in place of --alpha",
    )  # fmt: skip


def add_dtype(parser: Parser) -> None:
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="dtype of the computation (float32)"
    )


def add_computation(parser: Parser) -> None:
    parser.add_argument(
        "--dtype", choices=DTYPES,
        help="dtype of the computation (that of the training; with --model float32)",
    )  # fmt: skip
    parser.add_argument(
        "--strategy", default="",
        help="which tokens are kept, and whether the others are merged (the model's own)",
    )  # fmt: skip


def add_workdir(parser) -> None:
    parser.add_argument("--workdir", type=path, help="folder of a run (the newest in runs/)")


def add_model(parser: Parser) -> None:
    """--model or --workdir, and how to compute with it."""
    which = parser.add_mutually_exclusive_group()
    add_workdir(which)
    which.add_argument(
        "--model", type=path, help="a folder, a hub id, a .gguf file, or package:NAME/path"
    )
    add_reading(parser)
    add_computation(parser)


def add_reading(parser: Parser) -> None:
    """How a checkpoint is read that does not say it, or holds more than it should."""
    parser.add_argument(
        "--task", help="the model's task, where its config.json does not say it, e.g. features"
    )
    parser.add_argument(
        "--no-strict", dest="strict", action="store_false",
        help="ignore tensors that no known class of the model's family has",
    )  # fmt: skip


def given_run(args: argparse.Namespace) -> Path:
    return Path(args.workdir) if args.workdir else newest_run()


def given_model(args: argparse.Namespace) -> str:
    return args.model or str(model_of(given_run(args)))


def given_dtype(args: argparse.Namespace) -> str:
    return args.dtype or ("float32" if args.model else load_settings(given_run(args)).model.dtype)


def load_given(args: argparse.Namespace) -> tuple[Model, dict]:
    """Model and parameters, with the flags' dtype and strategy."""
    model, params = from_pretrained(
        given_model(args), args.task, dtype=given_dtype(args), strict=args.strict
    )
    return model.replace(strategy=args.strategy or model.strategy), params
