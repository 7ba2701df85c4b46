"""The queue of an Engine under load, in this process: what there is without HTTP and its client.

    python benchmarks/load_engine.py --texts texts.txt --loads 1,1.5,2 --out runs/load_engine

The texts are submitted when they are due, with a deadline, as load.py has them of a server. Load 1
is what dense answers while 64 texts wait. "cores" is what the process used of the processor.
"""

import time
from collections import Counter
from pathlib import Path

import numpy as np
from load import common_arguments, numbers
from load_client import CLIENTS, arrivals_s, read_texts

import latadj_jax
from latadj_jax.errors import Overloaded, TooLate

SPEEDUPS = (1.5, 2.0, 3.0)


def closed_loop_per_s(engine, texts: list[str], alpha, seconds: float) -> float:
    """Texts a second while CLIENTS of them wait."""
    replies, answered, end_s = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        while len(replies) < CLIENTS:
            text = texts[(answered + len(replies)) % len(texts)]
            replies.append(engine.submit(text, alpha=alpha))
        replies[0].result()
        waiting = [reply for reply in replies if not reply.done()]
        answered, replies = answered + len(replies) - len(waiting), waiting
    for reply in replies:
        reply.result()
    return answered / seconds


def open_loop(engine, texts: list[str], due_s: np.ndarray, slo_ms: float) -> str:
    """A row's cells: in time, refused, late, mean speedup, cores."""
    start_s, spent_s = time.perf_counter() + 0.1, time.process_time()
    replies, became, speedups = [], Counter(), []
    for n, due in enumerate(start_s + due_s):
        time.sleep(max(0.0, due - time.perf_counter()))
        examples = engine.job([texts[n % len(texts)]]).encode()
        try:
            replies += engine.submit_encoded(examples, latency_ms=slo_ms, arrived_s=due)
        except Overloaded:
            became["refused"] += 1
    for reply in replies:
        try:
            reply.result()
            became["late" if reply.served.late_ms else "in time"] += 1
            speedups.append(reply.served.speedup)
        except TooLate:
            became["late"] += 1
    seconds = time.perf_counter() - start_s
    shares = [f"{became[name] / len(due_s):.1%}" for name in ("in time", "refused", "late")]
    cores = (time.process_time() - spent_s) / seconds
    return " | ".join([*shares, f"{np.mean(speedups):.2f}", f"{cores:.2f}"])


def main() -> None:
    parser = common_arguments(__doc__)
    parser.add_argument("--loads", type=numbers, default=[0.5, 1, 1.5, 2, 2.5, 3])
    parser.add_argument("--seconds", type=float, default=15)
    args = parser.parse_args()
    texts, _ = read_texts(args.texts, args.labelled, args.max_texts)
    model, params = latadj_jax.from_pretrained(args.model)
    buckets = tuple(map(int, args.buckets.split(",")))
    alphas = [None, *(model.solve_alpha(buckets[-1], speedup) for speedup in SPEEDUPS)]
    options = {
        "buckets": buckets, "batch_sizes": tuple(map(int, args.batch_sizes.split(","))),
        "truncate": True, "max_wait_ms": 0.0,
    }  # fmt: skip
    tokenizer = latadj_jax.load_tokenizer(args.model)
    engines = {
        "adaptive": latadj_jax.Engine(model, params, tokenizer, alphas=alphas, **options),
        "dense with refusal": latadj_jax.Engine(
            model.replace(alpha=None), params, tokenizer, alphas=(None,), **options
        ),
    }
    for engine in engines.values():
        engine.warmup(repeats=5)
    adaptive = engines["adaptive"]
    rates = {
        name: closed_loop_per_s(adaptive, texts, alpha, args.seconds / 2)
        for name, alpha in (("dense", None), ("2x", alphas[2]), ("3x", alphas[3]))
    }
    dense_per_s = args.per_s or rates["dense"]
    lines = [
        "texts a second: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()),
        "",
        "| load | system | in time | refused | late | expected speedup | cores |",
        "|---" * 7 + "|",
    ]
    print("\n".join(lines), flush=True)
    for load in args.loads:
        for name, engine in engines.items():
            per_s = load * dense_per_s
            due_s = arrivals_s(args.arrivals, per_s, int(per_s * args.seconds), args.seed)
            lines.append(f"| {load:g} | {name} | {open_loop(engine, texts, due_s, args.slo_ms)} |")
            print(lines[-1], flush=True)
    for engine in engines.values():
        engine.close()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
