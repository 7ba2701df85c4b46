"""Embeds each line of a file.

    latadj embed MODEL --output vectors.npy --speedup 2 < lines.txt
    latadj embed MODEL --output vectors.npy --prompt query --input queries.txt

Writes a NumPy file: float32 [lines, D], one vector per line. The vector of an empty line is all
zeros. A line longer than the largest bucket is cut. MODEL is a folder, a hub id, or
package:NAME/path.
"""

import io

import numpy as np

from latadj_jax.atomic_file import write_whole
from latadj_jax.cli import flags
from latadj_jax.cli.lines import add_flags, at_speed, lines_of, load_for, rows_of
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.tasks.embedding import EMBEDDING

AT_ONCE = 512  # lines


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    model, params = load_for(args, EMBEDDING, "embeds")
    model.config.embedding.prompt(args.prompt)  # refuses an unknown one before anything is compiled
    engine = Engine(
        at_speed(args, model), params, load_tokenizer(args.model), buckets=args.buckets,
        truncate=True,
    )  # fmt: skip
    engine.compile_as_needed(progress=True)
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


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    add_flags(parser)
    parser.add_argument("--output", type=flags.path, required=True, help="the .npy file to write")
    parser.add_argument(
        "--prompt", metavar="NAME", help="name of one of the model's prompts (its default one)"
    )
    return parser
