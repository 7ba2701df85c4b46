"""Classifies each line of a file.

    latadj classify MODEL --speedup 2 < lines.txt
    latadj classify MODEL --latency_ms 20 --input lines.txt

The output is one line per input line: the label and its probability, separated by a tab. A
multi-label model prints every label that holds, a regression model its value. An empty line stays
empty. MODEL is a folder, a hub id, or package:NAME/path.
"""

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np

from latadj_jax.cli import flags
from latadj_jax.cli.lines import add_flags, at_speed, lines_of, longest_of, rows_of
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.sources import resolve
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine

LATENCIES = "latencies.json"  # beside the model


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    model, params = from_pretrained(args.model, args.task, dtype=args.dtype, strict=args.strict)
    if model.record.answer is None or model.record.reads_pairs:
        raise ValueError(f"{args.model} is for {model.task!r}; classify needs a head with labels.")
    folder = resolve(args.model)
    model, alphas, asked = _asked(args, model)
    timed = args.latency_ms is not None
    engine = Engine(
        model, params, load_tokenizer(args.model), alphas=alphas,
        buckets=args.buckets, batch_sizes=(1,) if timed else (1, 8, 32), truncate=args.truncate,
        latency_file=folder / LATENCIES if timed and folder.is_dir() else None,
    )  # fmt: skip
    if timed:
        engine.warmup(progress=True)
    else:
        engine.compile_as_needed(progress=True)
    at_once = 1 if timed else 512  # a budget is for one line
    with lines_of(args.input) as lines:
        for answer in classify(engine, lines, at_once, **asked):
            print(answer, flush=timed)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    speed = add_flags(parser)
    speed.add_argument(
        "--latency_ms",
        type=float,
        metavar="MS",
        help="time budget of each line, met by the slowest alpha that is fast enough here",
    )
    parser.add_argument(
        "--infeasible",
        choices=("raise", "fastest"),
        help="if no alpha meets --latency_ms: end with an error, or use the fastest (raise)",
    )
    parser.add_argument(
        "--truncate",
        action="store_true",
        help="cut lines longer than the largest bucket instead of refusing them",
    )
    return parser


def _asked(args, model: Model) -> tuple[Model, tuple, dict]:
    """The model and its alpha, other alphas to compile, and what to ask of the engine."""
    if args.infeasible and args.latency_ms is None:
        raise ValueError("--infeasible needs --latency_ms.")
    if args.latency_ms is None:
        return at_speed(args, model), (), {}
    alphas = []
    with contextlib.suppress(ValueError):  # the faster ones are out of this profile's reach
        for speed in (1.5, 2.0, 3.0, 4.0):
            alphas.append(model.solve_alpha(longest_of(args, model), speed))
    asked = {"latency_ms": args.latency_ms, "infeasible": args.infeasible or "raise"}
    return model.replace(alpha=None), tuple(alphas), asked


def classify(engine: Engine, lines: Iterable[str], at_once: int, **asked) -> Iterator[str]:
    """The answers to `lines`, `at_once` at a time; `asked` is as the engine has it.

    Raises:
      ValueError: a line that cannot be answered, by its number (from 1).
    """
    for logits_C in rows_of(engine, lines, at_once, **asked):
        yield "" if logits_C is None else _answer(engine.model, logits_C)


def _answer(model, logits_C: np.ndarray) -> str:
    answer = model.record.answer(model.config.labels, logits_C)
    labels = (f"{label}\t{probability:.4f}" for label, probability in answer.labels)
    return "\t".join((*labels, *(f"{value:.4f}" for value in answer.values)))
