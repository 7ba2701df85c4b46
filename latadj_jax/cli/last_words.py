"""Measures how often a language model guesses the last word (LAMBADA), dense and pruned.

    latadj last-words FILE.jsonl --alpha 0.8,0.6 --model MODEL

FILE is in LAMBADA's format: one JSON object with a text per line.
"""

from latadj_jax.cli import flags
from latadj_jax.cli.perplexity import add_language_model, evaluate_given
from latadj_jax.evaluation.settings import LMSettings


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    evaluate_given(args, LMSettings(), last_words=args.last_words)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument(
        "last_words",
        metavar="FILE",
        type=flags.path,
        help="JSON lines with texts, as LAMBADA has them",
    )
    add_language_model(parser, "over the contexts, each by its own length")
    return parser
