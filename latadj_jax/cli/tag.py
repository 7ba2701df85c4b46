"""Finds the entities in lines of text, at the speed that is asked for.

    latadj tag MODEL --speedup 2 < lines.txt
    latadj tag MODEL --aggregation first --json --input lines.txt

Prints a line for each: of each entity the text, its label and its probability, all with tabs
between; an empty line where there is none. With --json each line is a JSON array, whose "start" and
"end" count the characters of the line without the white space around it. MODEL is a folder, a hub
id, or package:NAME/path.
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
    args = _parser(prog).parse_args(argv)
    model, params = load_for(args, TAGS, "tags")
    engine = Engine(
        at_speed(args, model), params, load_tokenizer(args.model), buckets=args.buckets,
        truncate=args.truncate,
    )  # fmt: skip
    engine.warmup(progress=True, repeats=1)
    tag = functools.partial(engine.tag, aggregation=args.aggregation)
    with lines_of(args.input) as lines:
        for found in rows_of(tag, lines, AT_ONCE):
            print(json.dumps(found or [], ensure_ascii=False) if args.json else _line(found or []))


def _parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    add_flags(parser)
    parser.add_argument(
        "--aggregation", choices=AGGREGATIONS, default="simple",
        help="of tokens to entities: none, simple, or by whole words first, average or max",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="a JSON array for each line")
    parser.add_argument("--truncate", action="store_true", help="cut longer lines, not refuse them")
    return parser


def _line(entities: list[dict]) -> str:
    return "\t".join(
        f"{found['word']}\t{found.get('entity_group') or found['entity']}\t{found['score']:.4f}"
        for found in entities
    )
