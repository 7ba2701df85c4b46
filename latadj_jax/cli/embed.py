"""Embeds lines of text, at the speed that is asked for: one vector for each line.

    latadj embed MODEL --output vectors.npy --speedup 2 < lines.txt
    latadj embed MODEL --output vectors.npy --prompt query --input queries.txt

Writes float32 [lines, D] as NumPy reads it; an empty line is a row of zeros. MODEL is a folder, a
hub id, or package:NAME/path.
"""

import argparse
import io

import numpy as np

from latadj_jax.atomic_file import write_whole
from latadj_jax.checks import DTYPES
from latadj_jax.cli import flags
from latadj_jax.cli.lines import lines_of, rows_of
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.tasks.embedding import EMBEDDING

AT_ONCE = 512  # lines


def run(argv: list[str], prog: str) -> None:
    args = _parser(prog).parse_args(argv)
    task = args.task or EMBEDDING.name
    model, params = from_pretrained(args.model, task, dtype=args.dtype, strict=args.strict)
    if model.task != EMBEDDING.name:
        raise ValueError(f"a model embeds with task {EMBEDDING.name!r}; --task is {task!r}.")
    model.config.embedding.prompt(args.prompt)  # refuses an unknown one before anything is compiled
    longest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    alpha = getattr(args, "alpha", model.alpha)
    if args.speedup is not None:
        alpha = model.solve_alpha(longest, args.speedup)
    engine = Engine(
        model.replace(alpha=alpha), params, load_tokenizer(args.model), buckets=args.buckets,
        batch_sizes=(1, 8, 32), truncate=True,
    )  # fmt: skip
    engine.warmup(progress=True, repeats=1)
    nothing_D = np.zeros(model.row_width, np.float32)
    with lines_of(args.input) as lines:
        rows = [*rows_of(engine, lines, AT_ONCE, prompt=args.prompt)]
    if not rows:
        raise ValueError("there are no lines to embed.")
    vectors_ND = np.stack([nothing_D if row is None else row for row in rows])
    written = io.BytesIO()
    np.save(written, vectors_ND)
    write_whole(args.output, written.getvalue())
    print(f"{args.output}: {vectors_ND.shape[0]} x {vectors_ND.shape[1]}")


def _parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a folder, a hub id, or package:NAME/path")
    parser.add_argument("--output", type=flags.path, required=True, help="the .npy file to write")
    parser.add_argument(
        "--input", type=flags.path, help="a file of lines; standard input without one"
    )
    parser.add_argument("--prompt", help="the name of one of the model's; its default one without")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--alpha", type=flags.alpha, default=argparse.SUPPRESS, metavar="A",
        help="a number, or dense; by default the model's own",
    )  # fmt: skip
    speed.add_argument(
        "--speedup", type=flags.speedup, metavar="X",
        help="over dense, expected at the largest bucket",
    )  # fmt: skip
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 32,64; longer lines are cut",
    )  # fmt: skip
    flags.add_reading(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    return parser
