"""Perplexity of a language model on a text file: dense, and at one alpha or several.

latadj perplexity FILE.txt --alpha 0.8,0.6 --model MODEL
latadj perplexity FILE.txt --alpha 0.6 --model MODEL --layers 4,19 --context 1024
"""

from latadj_jax.cli import flags
from latadj_jax.evaluation.perplexity import evaluate_file
from latadj_jax.evaluation.report import summary
from latadj_jax.evaluation.settings import EvalSettings, LMSettings


def run(argv: list[str], prog: str) -> None:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("text", metavar="FILE", type=flags.path, help="a text file")
    add_language_model(parser, "at the length of a context")
    parser.add_argument(
        "--context", type=flags.positive, default=512,
        help="tokens that are pruned before what is scored (512)",
    )  # fmt: skip
    parser.add_argument(
        "--continuation", type=flags.positive, default=128,
        help="tokens scored after each context (128)",
    )  # fmt: skip
    parser.add_argument(
        "--max_windows", type=flags.number, default=0, help="windows of the text; 0, or none: all"
    )
    parser.add_argument(
        "--mode", choices=("sliding", "whole"), default="sliding",
        help="whole: context and scored tokens are pruned as one, as some papers do; it leaks",
    )  # fmt: skip
    args = parser.parse_args(argv)
    lm = LMSettings(
        context=args.context, continuation=args.continuation, mode=args.mode,
        max_windows=args.max_windows,
    )  # fmt: skip
    evaluate_given(args, lm, text=args.text)


def add_language_model(parser: flags.Parser, speedup_of: str) -> None:
    """Flags of every command that scores a text with a language model."""
    flags.add_model(parser)
    flags.add_alphas(parser, speedup_of)
    parser.add_argument(
        "--layers", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="remove in these layers only, from 1: e.g. 4,19",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=flags.positive, default=8, help="texts at a time (8)")


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
