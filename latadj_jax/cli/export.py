"""Writes programs that run without this library: one for each padded length and alpha.

latadj export FOLDER --alpha 0.9,0.8 --buckets 64,128
latadj export FOLDER --speedup 2 --model MODEL
latadj export FOLDER --format onnx --quantize int8 --speedup 2 --model MODEL
"""

from latadj_jax.cli import flags
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.export import export_programs
from latadj_jax.serving.export_onnx import QUANTIZED, export_onnx


def run(argv: list[str], prog: str) -> None:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", type=flags.path, help="a new one")
    flags.add_model(parser)
    flags.add_alphas(parser, "at the largest bucket")
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 64,128; by default 16, 24, 32, 48, ... 128",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("jax", "onnx"), default="jax",
        help="programs of jax.export, or graphs for onnxruntime; jax by default",
    )  # fmt: skip
    parser.add_argument(
        "--quantize",
        choices=QUANTIZED,
        help="of ONNX graphs: products of int8 weights, smaller, faster and less exact",
    )
    args = parser.parse_args(argv)
    if args.quantize and args.format != "onnx":
        parser.error("--quantize needs --format onnx.")
    model, params = flags.load_given(args)
    largest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    alphas = (*args.alpha, *(model.solve_alpha(largest, s) for s in args.speedup))
    given = args.folder, model, params, load_tokenizer(flags.given_model(args))
    options = {"alphas": alphas, "buckets": args.buckets, "progress": True}
    if args.format == "onnx":
        made, kind = export_onnx(*given, quantize=args.quantize, **options)["graphs"], "graph"
    else:
        made, kind = export_programs(*given, **options)["programs"], "program"
    print(f"{args.folder}\n\n| {kind} | expected speedup |\n|---|---|")
    for program in made:
        print(f"| {program['file']} | {program['expected_speedup']:.2f} |")
