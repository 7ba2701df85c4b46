"""Finds the entities in each line of a file.

    latadj tag MODEL --speedup 2 < lines.txt
    latadj tag MODEL --aggregation first --json --input lines.txt

The output is one line per input line. Each entity is its text, its label and its probability,
separated by tabs; a line without entities is empty. With --json each line is a JSON array; its
"start" and "end" are character positions in the line, counted without surrounding white space.
MODEL is a folder, a hub id, or package:NAME/path.
"""

import functools
import json

from latadj_jax.cli import flags
from latadj_jax.cli.lines import add_flags, at_speed, lines_of, load_for, rows_of
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.tags import AGGREGATIONS
from latadj_jax.tasks.tags import TAGS

AT_ONCE = 512  # lines


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    model, params = load_for(args, TAGS, "tags")
    engine = Engine(
        at_speed(args, model), params, load_tokenizer(args.model), buckets=args.buckets,
        truncate=args.truncate,
    )  # fmt: skip
    engine.compile_as_needed(progress=True)
    tag = functools.partial(engine.tag, aggregation=args.aggregation)
    with lines_of(args.input) as lines:
        for found in rows_of(tag, lines, AT_ONCE):
            print(json.dumps(found or [], ensure_ascii=False) if args.json else _line(found or []))


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    add_flags(parser)
    parser.add_argument(
        "--aggregation", choices=AGGREGATIONS, default="simple",
        help="how tokens become entities, as in transformers' pipeline (simple)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON array per line")
    parser.add_argument(
        "--truncate",
        action="store_true",
        help="cut lines longer than the largest bucket instead of refusing them",
    )
    return parser


def _line(entities: list[dict]) -> str:
    return "\t".join(
        f"{found['word']}\t{found.get('entity_group') or found['entity']}\t{found['score']:.4f}"
        for found in entities
    )
