"""Evaluates a run on its evaluation data, dense and at one alpha or several.

    latadj evaluate --alpha 0.9
    latadj evaluate --speedup 1.5,2 --workdir runs/bert_sst2 --dtype bfloat16
    latadj evaluate --alpha 0.9 --strategy score
    latadj evaluate --model MODEL --config embed_stsb --config.data.path=$DATA/glue/stsb --speedup 2

The last form evaluates any finished model on the evaluation data of a config.
"""

from latadj_jax.cli import flags
from latadj_jax.cli.train import read_settings
from latadj_jax.evaluation.report import summary
from latadj_jax.training.evaluate_run import evaluate_model, evaluate_run


def run(argv: list[str], prog: str) -> None:
    args, overrides = make_parser(prog).parse_known_args(argv)
    if bool(args.model) != bool(args.config):
        raise ValueError(
            "--model and --config go together: --config says whose data the model reads."
        )
    asked = {
        "alphas": args.alpha, "dtype": args.dtype or "", "strategy": args.strategy,
        "speedups": args.speedup,
    }  # fmt: skip
    if args.model:
        settings = read_settings(args.config, overrides)
        results, name = evaluate_model(args.model, settings, **asked), args.model
    else:
        args = make_parser(prog).parse_args(argv)  # which knows no other flags
        name = flags.given_run(args)
        results = evaluate_run(name, **asked)
    print(summary(str(name), results))


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    which = parser.add_mutually_exclusive_group()
    flags.add_workdir(which)
    which.add_argument("--model", type=flags.path, help="a finished model; needs --config")
    parser.add_argument("--config", help="the config whose evaluation data is used with --model")
    flags.add_alphas(parser, "over the evaluation data, each text by its own length")
    flags.add_computation(parser)
    return parser
