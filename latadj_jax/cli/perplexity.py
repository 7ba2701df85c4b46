"""Measures the perplexity of a language model on a text file, dense and at one alpha or several.

    latadj perplexity FILE.txt --alpha 0.8,0.6 --model MODEL
    latadj perplexity FILE.txt --alpha 0.6 --model MODEL --layers 4,19 --context 1024

Each context is pruned; the tokens that follow it are read densely and scored.
"""

from latadj_jax.cli import flags
from latadj_jax.evaluation.perplexity import evaluate_file
from latadj_jax.evaluation.report import summary
from latadj_jax.evaluation.settings import EvalSettings, LMSettings


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    lm = LMSettings(
        context=args.context, continuation=args.continuation, mode=args.mode,
        max_windows=args.max_windows,
    )  # fmt: skip
    evaluate_given(args, lm, text=args.text)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument("text", metavar="FILE", type=flags.path, help="a text file")
    add_language_model(parser, "at the length of a context")
    parser.add_argument(
        "--context", type=flags.positive, default=512,
        help="tokens of each pruned context (512)",
    )  # fmt: skip
    parser.add_argument(
        "--continuation", type=flags.positive, default=128,
        help="tokens that are scored after each context (128)",
    )  # fmt: skip
    parser.add_argument(
        "--max_windows", type=flags.number, default=0, help="windows to score; 0 scores all (0)"
    )
    parser.add_argument(
        "--mode", choices=("sliding", "whole"), default="sliding",
        help="whole: prune context and scored tokens together, as some papers do, so that later "
        "tokens influence earlier ones (sliding)",
    )  # fmt: skip
    return parser


def add_language_model(parser: flags.Parser, speedup_of: str) -> None:
    """Flags of every command that scores a text with a language model."""
    flags.add_model(parser)
    flags.add_alphas(parser, speedup_of)
    parser.add_argument(
        "--layers", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="remove tokens in these layers only, counted from 1, e.g. 4,19",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=flags.positive, default=8, help="texts per batch (8)")


def evaluate_given(
    args, lm: LMSettings, *, text: str | None = None, last_words: str | None = None
) -> None:
    """Scores the file with the model that the flags name, and prints the tables."""
    source = flags.given_model(args)
    results = evaluate_file(
        source,
        args.alpha,
        task=args.task,
        strict=args.strict,
        speedups=args.speedup,
        text=text,
        last_words=last_words,
        lm=lm,
        settings=EvalSettings(batch_size=args.batch_size),
        strategy=args.strategy,
        layers=args.layers,
        dtype=flags.given_dtype(args),
    )
    print(summary(source, results))
