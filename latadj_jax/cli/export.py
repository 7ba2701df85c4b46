"""Writes programs that run without this library: one for each padded length and alpha.

latadj export FOLDER --alpha 0.9,0.8 --buckets 64,128
latadj export FOLDER --speedup 2 --model MODEL
"""

from latadj_jax.cli import flags
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.export import export_programs


def run(argv: list[str], prog: str) -> None:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", type=flags.path, help="a new one")
    flags.add_model(parser)
    flags.add_alphas(parser, "at the largest bucket")
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 64,128; by default 16, 24, 32, 48, ... 128",
    )  # fmt: skip
    args = parser.parse_args(argv)
    model, params = flags.load_given(args)
    largest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    written = export_programs(
        args.folder, model, params, load_tokenizer(flags.given_model(args)),
        alphas=(*args.alpha, *(model.solve_alpha(largest, s) for s in args.speedup)),
        buckets=args.buckets, progress=True,
    )  # fmt: skip
    print(f"{args.folder}\n\n| program | expected speedup |\n|---|---|")
    for program in written["programs"]:
        print(f"| {program['file']} | {program['expected_speedup']:.2f} |")
