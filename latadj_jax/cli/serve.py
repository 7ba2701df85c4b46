"""Serves a model over HTTP, and prunes more under load before it refuses a request.

    latadj serve MODEL --slo_ms 100
    latadj serve MODEL --port 8080 --speedup 1.5,2,3 --max_speedup 2 --slo_ms 50
    latadj serve EXPORTED --runtime onnx --slo_ms 100

The routes follow the model's task and have the form of text-embeddings-inference, OpenAI and
Cohere; /docs lists them. MODEL is a folder, a hub id, or package:NAME/path. With --runtime onnx it
is the folder that latadj export --format onnx wrote: its alphas and lengths are served, or those
that flags name.
"""

import argparse
import contextlib
import logging
import os
import sys
import threading

from latadj_jax.checks import DTYPES
from latadj_jax.cli import flags
from latadj_jax.extras import require
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.budgets import alpha_of_speedup
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.onnx_engine import OnnxEngine, read_exported
from latadj_jax.serving.policy import Policy

SPEEDUPS = (1.5, 2.0, 3.0)  # by default, where the profile reaches them
API_KEY = "LATADJ_API_KEY"


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    service = make_service(args)
    from latadj_jax.serving.http.server import make_server

    server = make_server(service, args.host, args.port)
    log_to_stderr()
    address = f"http://{args.host}:{args.port}"
    _say(f"compiling; {address}/ready says when it can serve")
    starting = threading.Thread(target=_start, args=(service, server, address), daemon=True)
    starting.start()
    server.run()
    if not service.ready:
        raise ValueError(f"the server ended before it was ready: {service.starting}.")


def make_service(args: argparse.Namespace):
    """The service that the flags ask for; nothing is compiled yet."""
    require("serve", "fastapi", "httptools", "orjson", "prometheus_client", "uvicorn")
    from latadj_jax.serving.http.metrics import Metrics
    from latadj_jax.serving.http.service import Service
    from latadj_jax.serving.http.settings import ServerSettings

    settings = ServerSettings(
        name=args.name or args.model, slo_ms=args.slo_ms, max_texts=args.max_texts,
        api_key=args.api_key or os.environ.get(API_KEY), max_body_bytes=args.max_body_bytes,
        max_requests=args.max_queue,
    )  # fmt: skip
    return Service(_engine(args), settings, Metrics())


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument("model", metavar="MODEL", help=flags.MODEL)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines connect (127.0.0.1)",
    )
    parser.add_argument("--port", type=flags.number, default=8080, help="port to listen at (8080)")
    parser.add_argument(
        "--slo_ms", type=float, metavar="MS",
        help="deadline of a request that names none, in milliseconds (no deadline)",
    )  # fmt: skip
    parser.add_argument(
        "--alphas", type=flags.several(flags.alpha), default=(), metavar="A[,A]",
        help="alphas to choose from; dense and the model's own are always among them",
    )  # fmt: skip
    parser.add_argument(
        "--speedup", type=flags.several(flags.speedup), metavar="X[,X]",
        help="the same as expected speedups over dense at the largest bucket (1.5,2,3)",
    )  # fmt: skip
    floor = parser.add_mutually_exclusive_group()
    floor.add_argument("--min_alpha", type=flags.alpha, help="never choose a smaller alpha unasked")
    floor.add_argument(
        "--max_speedup", type=float, metavar="X", help="never choose a faster alpha unasked"
    )
    parser.add_argument(
        "--buckets", type=flags.several(flags.number), default=(), metavar="N[,N]",
        help="padded lengths, e.g. 32,64; no text may be longer than the largest (up to 128)",
    )  # fmt: skip
    parser.add_argument(
        "--batch_sizes",
        type=flags.several(flags.positive),
        default=(1, 8, 32),
        metavar="N[,N]",
        help="batch sizes to compile for (1,8,32)",
    )
    parser.add_argument(
        "--truncate",
        action="store_true",
        help="cut texts longer than the largest bucket instead of refusing them",
    )
    parser.add_argument(
        "--max_queue", type=flags.positive, default=1024, metavar="N",
        help="texts that may wait (1024)",
    )  # fmt: skip
    parser.add_argument(
        "--max_queue_tokens", type=flags.positive, default=131_072, metavar="N",
        help="tokens that may wait (131072)",
    )  # fmt: skip
    parser.add_argument(
        "--max_texts", type=flags.positive, default=256, metavar="N",
        help="texts that a request may have (256)",
    )  # fmt: skip
    parser.add_argument(
        "--max_body_bytes", type=flags.positive, default=2_000_000, metavar="N",
        help="largest body of a request, in bytes (2000000)",
    )  # fmt: skip
    parser.add_argument(
        "--api_key",
        metavar="KEY",
        help=f"a key that clients must send; the environment variable {API_KEY} sets it too",
    )
    parser.add_argument("--name", help="name of the model that clients see (MODEL)")
    flags.add_reading(parser)
    parser.add_argument(
        "--dtype", choices=DTYPES, help="dtype of the computation with --runtime jax (float32)"
    )
    parser.add_argument(
        "--runtime", choices=tuple(RUNTIMES), default="jax",
        help="jax: programs of JAX; onnx: exported graphs in onnxruntime (jax)",
    )  # fmt: skip
    return parser


def _engine(args: argparse.Namespace) -> Engine:
    policy = Policy(
        min_alpha=args.min_alpha, max_speedup=args.max_speedup, max_waiting=args.max_queue,
        max_waiting_tokens=args.max_queue_tokens,
    )  # fmt: skip
    return RUNTIMES[args.runtime](
        args, buckets=args.buckets, batch_sizes=args.batch_sizes, truncate=args.truncate,
        max_wait_ms=0.0, policy=policy,
    )  # fmt: skip


def _of_jax(args: argparse.Namespace, **options) -> Engine:
    dtype = args.dtype or "float32"
    model, params = from_pretrained(args.model, args.task, dtype=dtype, strict=args.strict)
    alphas = (None, *_alphas(args, model))
    return Engine(model, params, load_tokenizer(args.model), alphas=alphas, **options)


def _of_onnx(args: argparse.Namespace, **options) -> Engine:
    if args.task or args.dtype or not args.strict:
        raise ValueError(
            "--task, --dtype and --no-strict are of --runtime jax; say them to export."
        )
    exported = read_exported(args.model)
    model, there = exported.model, exported.alphas
    longest = max(args.buckets or exported.buckets)
    faster = [alpha_of_speedup(model, there, longest, one, "raise") for one in args.speedup or ()]
    alphas = (None, *args.alphas, *faster)
    return OnnxEngine(args.model, alphas=alphas if len(alphas) > 1 else (), **options)


RUNTIMES = {"jax": _of_jax, "onnx": _of_onnx}


def _alphas(args: argparse.Namespace, model: Model) -> tuple[float | None, ...]:
    """Those of --alphas and --speedup; by default of the speedups that can be reached."""
    longest = serving_buckets(args.buckets, model.config.max_positions)[-1]
    if args.speedup is not None:
        return (*args.alphas, *(model.solve_alpha(longest, one) for one in args.speedup))
    found = list(args.alphas)
    if not found:
        with contextlib.suppress(ValueError):  # the faster ones are out of this profile's reach
            for speedup in SPEEDUPS:
                found.append(model.solve_alpha(longest, speedup))
    return tuple(found)


def _start(service, server, address: str) -> None:
    """Compiles; the server runs meanwhile and says so. Ends it where that fails."""

    def told(done: int, of: int) -> None:
        if service.ready and done == len(service.engine.alphas):
            _say(f"serving {service.engine.model.task} at {address} (/docs lists the routes)")
        if done == of:
            _say(f"all {of} programs are compiled")

    if not service.start(told):
        server.should_exit = True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """A line of JSON for each request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    access = logging.getLogger("latadj.access")
    access.addHandler(handler)
    access.setLevel(logging.INFO)
    access.propagate = False
