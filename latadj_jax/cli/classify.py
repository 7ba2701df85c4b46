"""Classifies lines of text, at the speed that is asked for: the engine as a command.

    latadj classify MODEL --speedup 2 < lines.txt
    latadj classify MODEL --latency_ms 20 --input lines.txt

Prints a line for each: the label and its probability (of a regression the value), with a tab
between; an empty line for an empty one. MODEL is a folder, a hub id, or package:NAME/path.
"""

import argparse
import contextlib
from collections.abc import Iterable, Iterator

import numpy as np

from latadj_jax.checks import DTYPES
from latadj_jax.cli import flags
from latadj_jax.cli.lines import lines_of, rows_of
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.sources import resolve
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine

LATENCIES = "latencies.json"  # beside the model


def run(argv: list[str], prog: str) -> None:
    args = _parser(prog).parse_args(argv)
    model, params = from_pretrained(args.model, args.task, dtype=args.dtype, strict=args.strict)
    if not model.record.labelled:
        raise ValueError(f"{args.model} is for {model.task!r}; classify needs a head with labels.")
    folder = resolve(args.model)
    model, alphas, asked = _asked(args, model)
    timed = args.latency_ms is not None
    engine = Engine(
        model, params, load_tokenizer(args.model), alphas=alphas,
        buckets=args.buckets, batch_sizes=(1,) if timed else (1, 8, 32), truncate=args.truncate,
        latency_file=folder / LATENCIES if timed and folder.is_dir() else None,
    )  # fmt: skip
    engine.warmup(progress=True, repeats=20 if timed else 1)
    at_once = 1 if timed else 512  # a budget is for one line
    with lines_of(args.input) as lines:
        for answer in classify(engine, lines, at_once, **asked):
            print(answer, flush=timed)


def _parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a folder, a hub id, or package:NAME/path")
    parser.add_argument(
        "--input", type=flags.path, help="a file of lines; standard input without one"
    )
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--alpha", type=flags.alpha, default=argparse.SUPPRESS, metavar="A",
        help="a number, or dense; by default the model's own",
    )  # fmt: skip
    speed.add_argument(
        "--speedup",
        type=flags.speedup,
        metavar="X",
        help="over dense, expected at the largest bucket",
    )
    speed.add_argument("--latency_ms", type=float, help="for each line, by measured times")
    parser.add_argument(
        "--infeasible", choices=("raise", "fastest"), help="where --latency_ms cannot be met"
    )
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 32,64",
    )  # fmt: skip
    flags.add_reading(parser)
    parser.add_argument("--truncate", action="store_true", help="cut longer lines, not refuse them")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    return parser


def _asked(args, model: Model) -> tuple[Model, tuple, dict]:
    """The model and its alpha, other alphas to compile, and what to ask of the engine."""
    if args.infeasible and args.latency_ms is None:
        raise ValueError("--infeasible needs --latency_ms.")
    longest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    if args.latency_ms is not None:
        alphas = []
        with contextlib.suppress(ValueError):  # the faster ones are out of this profile's reach
            for speed in (1.5, 2.0, 3.0, 4.0):
                alphas.append(model.solve_alpha(longest, speed))
        asked = {"latency_ms": args.latency_ms, "infeasible": args.infeasible or "raise"}
        return model.replace(alpha=None), tuple(alphas), asked
    if args.speedup is not None:
        alpha = model.solve_alpha(longest, args.speedup)
    else:
        alpha = getattr(args, "alpha", model.alpha)
    return model.replace(alpha=alpha), (), {}


def classify(engine: Engine, lines: Iterable[str], at_once: int, **asked) -> Iterator[str]:
    """The answers to `lines`, `at_once` at a time; `asked` is as the engine has it.

    Raises:
      ValueError: a line that cannot be answered, by its number (from 1).
    """
    for logits_C in rows_of(engine, lines, at_once, **asked):
        yield "" if logits_C is None else _answer(engine.model, logits_C)


def _answer(model, logits_C: np.ndarray) -> str:
    answer = model.record.answer(model.config.labels, logits_C)
    if answer.values:
        return "\t".join(f"{value:.4f}" for value in answer.values)
    return f"{answer.label}\t{answer.probability:.4f}"
