"""Evaluates a run on its evaluation data: dense, and at one alpha or several.

latadj evaluate --alpha 0.9
latadj evaluate --speedup 1.5,2 --workdir runs/bert_sst2 --dtype bfloat16
latadj evaluate --alpha 0.9 --strategy score
"""

from latadj_jax.cli import flags
from latadj_jax.evaluation.report import summary
from latadj_jax.training.evaluate_run import evaluate_run


def run(argv: list[str], prog: str) -> None:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    flags.add_workdir(parser)
    flags.add_alphas(parser, "over the evaluation data, each text by its own length")
    flags.add_computation(parser)
    args = parser.parse_args(argv)
    workdir = flags.given_run(args)
    results = evaluate_run(
        workdir, args.alpha, args.dtype or "", args.strategy, speedups=args.speedup
    )
    print(summary(str(workdir), results))
