"""Seconds until a first answer of BERT-base, with no compilation cache, a cold and a warm one.

    python benchmarks/compile_time.py --length 128 --speedup 3
    python benchmarks/compile_time.py --length 128 --speedup 3 --train

Each measurement is a process of its own, dense and with elimination. "first call" is tracing,
compiling (or reading the cache) and one run; "programs" is how many XLA was asked for in that call.
With --train it is a training step of 8 texts: dense, and one that teaches 1.5x, 2x and 3x at once;
--layers, --strategy and --dropout say what of it is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import count_compilations

BERT_BASE = json.loads((Path(__file__).parent / "runtimes" / "bert_base.json").read_text())


def first_call(args: argparse.Namespace) -> None:
    """Prints the seconds of the first call and how many programs it asked for."""
    model = described(args, "score")
    params = latadj_jax.init_params(model)
    alpha = None if args.first_call == 1 else model.solve_alpha(args.length, args.first_call)
    batch = {"input_ids": np.ones((1, args.length), np.int32)}
    print(json.dumps(timed(lambda: latadj_jax.apply(model, params, batch, alpha))))


def first_step(args: argparse.Namespace) -> None:
    """The same of a training step; above a speedup of 1 one checkpoint for all speeds up to it."""
    from latadj_jax.training.optimizer import make_optimizer
    from latadj_jax.training.settings import TrainSettings
    from latadj_jax.training.steps import Step, first_state, train_step

    model, speedup = described(args, "merge"), args.first_call
    model = model.replace(config=model.config.with_dropout(args.dropout))
    speeds = [s for s in (1.5, 2.0, speedup) if s <= speedup]
    alphas = [None, *(model.solve_alpha(args.length, s) for s in speeds)]
    plans = tuple(model.plan(alpha, args.length) for alpha in alphas)
    optimizer = make_optimizer(TrainSettings(), 10)
    key = jax.random.key(0, impl=TrainSettings().generator)
    step = Step(model, optimizer, plans, distill=0.5 if len(plans) > 1 else 0.0)
    state = first_state(model, optimizer, latadj_jax.init_params(model))
    ids = np.ones((8, args.length), np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids, bool),
             "labels": np.zeros(8, np.int32), "weights": np.ones(8, np.float32)}  # fmt: skip
    print(json.dumps(timed(lambda: train_step(step, state, batch, key))))


def described(args: argparse.Namespace, strategy: str) -> latadj_jax.Model:
    config = config_from_hf({**BERT_BASE, "num_hidden_layers": args.layers})
    kind = latadj_jax.Profile.falling if args.train else latadj_jax.Profile.constant
    strategy = args.strategy or strategy
    return latadj_jax.Model(config, "classification", profile=kind(args.layers), strategy=strategy)


def timed(call: Callable[[], object]) -> dict[str, float]:
    with count_compilations() as compilations:
        start, spent = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
    return {"seconds": seconds, "processor_s": spent, "programs": len(compilations)}


def main(args: argparse.Namespace) -> None:
    print(
        "| expected speedup | compilation cache | first call, s | processor, s | programs |\n"
        "|---|---|---|---|---|"
    )
    for speedup in (1.0, args.speedup):
        with tempfile.TemporaryDirectory() as cache:
            settings = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            for name, extra in (("none", {}), ("cold", settings), ("warm", settings)):
                command = [sys.executable, __file__, *sys.argv[1:], "--first_call", str(speedup)]
                done = subprocess.run(command, env={**os.environ, **extra}, capture_output=True,
                                      text=True, check=True)  # fmt: skip
                found = json.loads(done.stdout.strip().split("\n")[-1])
                cells = f"{found['seconds']:.1f} | {found['processor_s']:.1f} | {found['programs']}"
                print(f"| {speedup:g} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--speedup", type=float, default=3.0)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--strategy", default="", help="by default score, of a step merge")
    parser.add_argument("--dropout", type=float, default=0.1, help="of a step")
    parser.add_argument("--train", action="store_true", help="a training step")
    parser.add_argument("--first_call", type=float, help="what the processes are started with")
    parsed = parser.parse_args()
    if parsed.first_call is None:
        main(parsed)
    else:
        (first_step if parsed.train else first_call)(parsed)
