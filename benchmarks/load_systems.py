"""What load.py compares: servers, each a process of its own, and how each is asked.

Peers, with the same weights: infinity-emb (torch), from an environment of its own, and onnxruntime
behind our own routes, of a folder that `latadj export --format onnx` wrote.
"""

import contextlib
import dataclasses
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx


@dataclasses.dataclass(frozen=True)
class Route:
    """How a server is asked for one text.

    Attributes:
      body: function of the text.
      read: function of the answer: the text's vector, of length 1, or its label.
    """

    path: str
    body: Callable[[str], dict]
    read: Callable[[bytes], list[float] | str]


@dataclasses.dataclass(frozen=True)
class Server:
    """
    Attributes:
      command: function of (args, port): what starts it.
      is_ready: function of its address; it may raise an httpx.TransportError.
      routes: by what is asked for, "vector" or "label".
    """

    command: Callable[..., list[str]]
    is_ready: Callable[[str], bool]
    routes: dict[str, Route]


@dataclasses.dataclass(frozen=True)
class Speeds:
    """What the server has: the alphas of an expected 2x and of its fastest, and the SLO."""

    alpha_2x: float
    fastest: float
    slo_ms: float


@dataclasses.dataclass(frozen=True)
class System:
    """
    Attributes:
      server: its name in SERVERS; several systems may share one.
      beside: what is sent beside the text.
    """

    server: str
    beside: Callable[[Speeds], dict]


# ---- servers ----------------------------------------------------------------------------------


def _ours(args, port: int) -> list[str]:
    flags = ["--speedup", "1.5,2,3", "--buckets", args.buckets, "--batch_sizes", args.batch_sizes]
    return _latadj(args.model, port, flags)


def _onnx(args, port: int) -> list[str]:
    if not args.onnx:
        raise SystemExit("system onnx needs --onnx: a folder of `latadj export --format onnx`.")
    flags = ["--runtime", "onnx", "--batch_sizes", args.batch_sizes]
    return _latadj(args.onnx, port, flags)


def _latadj(model: str, port: int, flags: list[str]) -> list[str]:
    command = [sys.executable, "-m", "latadj_jax.cli", "serve", model, "--port", str(port)]
    return [*command, "--truncate", *flags]


def _infinity(args, port: int) -> list[str]:
    if not args.infinity:
        raise SystemExit(
            "system infinity needs --infinity: the infinity_emb of an environment with "
            "pip install 'infinity-emb[server,torch]==0.0.78'."
        )
    return [
        args.infinity, "v2", "--model-id", folder_of(args.model), "--port", str(port),
        "--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer",
        "--batch-size", args.batch_sizes.split(",")[-1],
    ]  # fmt: skip


def folder_of(model: str) -> str:
    """Of package:NAME/path the path on this machine; infinity reads folders."""
    if not model.startswith("package:"):
        return model
    name, path = model.removeprefix("package:").split("/", 1)
    (place,) = importlib.util.find_spec(name).submodule_search_locations
    return str(Path(place) / path)


def _is_compiled(address: str) -> bool:
    """While the last programs are made, times are not the server's."""
    return httpx.get(f"{address}/ready").json().get("starting") == ""


def _first_label(answer: bytes) -> str:
    return max(json.loads(answer)["data"][0], key=lambda one: one["score"])["label"]


OUR_ROUTES = {
    "vector": Route("/embed", lambda text: {"inputs": text}, lambda found: json.loads(found)[0]),
    "label": Route(
        "/predict", lambda text: {"inputs": text}, lambda found: json.loads(found)[0]["label"]
    ),
}
SERVERS = {
    "ours": Server(_ours, _is_compiled, OUR_ROUTES),
    "onnx": Server(_onnx, _is_compiled, OUR_ROUTES),
    "infinity": Server(
        _infinity,
        lambda address: httpx.get(f"{address}/health").is_success,
        {
            "vector": Route(
                "/embeddings",
                lambda text: {"model": "any", "input": text},
                lambda found: json.loads(found)["data"][0]["embedding"],
            ),
            "label": Route(
                "/classify", lambda text: {"model": "any", "input": [text]}, _first_label
            ),
        },
    ),
}

# ---- systems ----------------------------------------------------------------------------------

SYSTEMS = {
    "adaptive": System("ours", lambda speeds: {"latency_ms": speeds.slo_ms}),
    "dense": System("ours", lambda speeds: {"alpha": "dense"}),
    "fixed 2x": System("ours", lambda speeds: {"alpha": speeds.alpha_2x}),
    "fastest": System("ours", lambda speeds: {"alpha": speeds.fastest}),
    "dense with refusal": System(
        "ours", lambda speeds: {"alpha": "dense", "latency_ms": speeds.slo_ms}
    ),
    "infinity": System("infinity", lambda speeds: {}),
    "onnx dense": System("onnx", lambda speeds: {"alpha": "dense"}),
    "onnx fixed 2x": System("onnx", lambda speeds: {"alpha": speeds.alpha_2x}),
    "onnx adaptive": System("onnx", lambda speeds: {"latency_ms": speeds.slo_ms}),
}
OURS = ("adaptive", "dense", "fixed 2x", "dense with refusal")


# ---- their processes --------------------------------------------------------------------------


@contextlib.contextmanager
def serving(names: set[str], args) -> Iterator[dict[str, str]]:
    """The addresses of servers, which end with the block, however that ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(_running(name, args, args.port + n))
            for n, name in enumerate(sorted(names))
        }


@contextlib.contextmanager
def _running(name: str, args, port: int) -> Iterator[str]:
    server, address = SERVERS[name], f"http://127.0.0.1:{port}"
    command = server.command(args, port)
    with open(Path(args.out) / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, server, address, log.name)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def _wait(process: subprocess.Popen, server: Server, address: str, log: str) -> None:
    while True:
        if process.poll() is not None:
            raise SystemExit(f"the server ended; see {log}.")
        with contextlib.suppress(httpx.TransportError):
            if server.is_ready(address):
                return
        time.sleep(1)
