"""Writes programs that run without this library: one for each padded length and alpha.

    latadj export FOLDER --alpha 0.9,0.8 --buckets 64,128
    latadj export FOLDER --speedup 2 --model MODEL
    latadj export FOLDER --format onnx --quantize int8 --speedup 2 --model MODEL
    latadj export FOLDER --format web --speedup 1.5,2,3 --model MODEL

It exports the newest run unless you pass --model.
"""

from latadj_jax.browser.export_web import export_web
from latadj_jax.cli import flags
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.export import export_programs
from latadj_jax.serving.export_onnx import QUANTIZED, export_onnx


def run(argv: list[str], prog: str) -> None:
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    if args.quantize and args.format == "jax":
        parser.error("--quantize needs --format onnx or web.")
    if args.libraries and args.format != "web":
        parser.error("--libraries needs --format web.")
    model, params = flags.load_given(args)
    largest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    alphas = (*args.alpha, *(_alpha_of(speedup, model, largest) for speedup in args.speedup))
    given = args.folder, model, params, load_tokenizer(flags.given_model(args))
    options = {"alphas": alphas, "buckets": args.buckets, "progress": True}
    made = FORMATS[args.format](args, given, options)
    print(f"{args.folder}\n\n| file | expected speedup |\n|---|---|")
    for program in made:
        print(f"| {program['file']} | {program['expected_speedup']:.2f} |")


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", type=flags.path, help="the folder to write; new or empty"
    )
    flags.add_model(parser)
    flags.add_alphas(parser, "at the largest bucket")
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 64,128 (16, 24, 32, 48, ... 128)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=tuple(FORMATS), default="jax",
        help="jax: programs of jax.export; onnx: graphs for onnxruntime; web: these, and a page "
        "that runs them in a browser (jax)",
    )  # fmt: skip
    parser.add_argument(
        "--quantize",
        choices=QUANTIZED,
        help="store the weights of ONNX graphs in 8 bits: a smaller file, less exact",
    )
    parser.add_argument(
        "--libraries", type=flags.path, metavar="FOLDER",
        help="of the page: a node_modules folder (npm fetches what it needs)",
    )  # fmt: skip
    return parser


def _alpha_of(speedup: float, model: Model, largest: int) -> float:
    """The model's own alpha where that is this one, rounded down to four places by `latadj adapt`:
    there is a program of it already."""
    alpha, own = model.solve_alpha(largest, speedup), model.alpha
    return own if own is not None and alpha - 1e-4 < own <= alpha else alpha


def _jax(args, given, options) -> list[dict]:
    return export_programs(*given, **options)["programs"]


def _onnx(args, given, options) -> list[dict]:
    return export_onnx(*given, quantize=args.quantize, **options)["graphs"]


def _web(args, given, options) -> list[dict]:
    title = flags.given_model(args)
    options |= {"quantize": args.quantize, "title": title, "libraries": args.libraries}
    return export_web(*given, **options)["graphs"]


FORMATS = {"jax": _jax, "onnx": _onnx, "web": _web}
