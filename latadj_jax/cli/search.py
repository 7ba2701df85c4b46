"""Searches for the profile that changes a model's answers least, at equal measured time.

    latadj search MODEL --texts texts.txt --speedup 1.5,2,3 --profile profile.json
    latadj adapt MODEL --texts texts.txt --config.elimination.profile=profile.json

Each candidate is a schedule of rates, with merging or without, a share of the speedup that comes
from skipped layers, and a number of tokens that always stay. Nothing is trained. What changes the
answers least before training is not always what is best after it. Flags and texts are those of
`latadj adapt`; candidates are measured on the texts that it holds out.
"""

import logging
import math
from pathlib import Path

from latadj_jax.cli import adapt, flags
from latadj_jax.evaluation.profile_search import Tried, search_profile
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training.jobs.job import as_trained
from latadj_jax.training.jobs.labelled import evaluator
from latadj_jax.training.jobs.teacher import read_for

TEXTS = 512  # to measure on


def run(argv: list[str], prog: str) -> None:
    args, overrides = make_parser(prog).parse_known_args(argv)
    speedups = tuple(sorted({*(args.speedup or adapt.SPEEDUPS)}))
    if not all(1 < speedup < math.inf for speedup in speedups):
        raise ValueError(f"--speedup takes numbers above 1; one is {speedups[0]:g}.")
    for override in overrides:
        if override.startswith(("--config.elimination.", "--config.eval.metrics")):
            raise ValueError(f"{override.split('=')[0]} cannot be set: the search chooses it.")
    if not Path(args.profile).absolute().parent.is_dir():
        raise ValueError(f"--profile is {args.profile!r}: there is no such folder.")
    logging.getLogger("latadj_jax").setLevel(logging.INFO)
    settings = adapt.asked(args, [f"--config.data.max_eval_examples={TEXTS}", *overrides]).settings
    model, params = read_for(args.model, settings.model.task, args.strict)
    # First, since it refuses a model of another task than was asked for.
    evaluate = evaluator(settings, model, load_tokenizer(args.model))
    model = as_trained(model, settings)
    tried = search_profile(model, evaluate, params, adapt.lengths_of(model, settings), speedups)
    best = tried[0].candidate
    best.of(model).profile.save(args.profile)
    print(f"{table(tried, model.record.agreement, speedups)}\n\nThe first is in {args.profile}.")
    if best.strategy != settings.elimination.strategy:
        print(f"It goes with --config.elimination.strategy={best.strategy}.")


def table(tried: list[Tried], metric: str, speedups: tuple[float, ...]) -> str:
    """Markdown, a row for each candidate: agreement with the dense answers at each speedup."""
    columns = [
        "rates",
        "strategy",
        "depth",
        "order",
        "min_tokens",
        *(f"{metric}, {x:g}x" for x in speedups),
    ]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for one in tried:
        c = one.candidate
        cells = [c.rates, c.strategy, f"{c.depth:g}", c.order if c.depth else "", str(c.min_tokens)]
        cells += ["out of reach" if x != x else f"{x:.4f}" for x in one.agreement]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    adapt.add_texts(parser)
    parser.add_argument(
        "--profile",
        type=flags.path,
        default="profile.json",
        help="the file that the best profile is written to (profile.json)",
    )
    flags.add_reading(parser)
    return parser
