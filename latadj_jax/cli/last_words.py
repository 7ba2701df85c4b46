"""Accuracy of a language model's last words: dense, and at one alpha or several.

    latadj last-words FILE.jsonl --alpha 0.8,0.6 --model MODEL

FILE is in LAMBADA's format: a JSON object with a text in each line.
"""

from latadj_jax.cli import flags
from latadj_jax.cli.perplexity import add_language_model, evaluate_given
from latadj_jax.evaluation.settings import LMSettings


def run(argv: list[str], prog: str) -> None:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument(
        "last_words", metavar="FILE", type=flags.path, help="JSON lines, as LAMBADA: texts"
    )
    add_language_model(parser, "over the contexts, each by its own length")
    args = parser.parse_args(argv)
    evaluate_given(args, LMSettings(), last_words=args.last_words)
