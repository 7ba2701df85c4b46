"""A server that is left alone, disturbed, or kept busy for long.

    python benchmarks/load_checks.py overhead --texts texts.txt --out runs/overhead
    python benchmarks/load_checks.py neighbour --texts texts.txt --load 0.4 --out runs/neighbour
    python benchmarks/load_checks.py soak --texts texts.txt --load 0.8 --minutes 30 --out runs/soak

overhead: one text at a time, by HTTP and by an Engine in this process, in turns: what HTTP and the
queue add. neighbour: a busy process takes the first core for 30 s; what share of requests is
answered in time in each second. soak: memory, errors and compilations, minute by minute. Loads are
of what dense answers in a closed loop, as in load.py. Each prints its table, and writes it.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from load import common_arguments
from load_client import arrivals_s, client_of, connect, read_texts, speeds_of
from load_systems import SYSTEMS, serving

import latadj_jax

BUSY = "while True: pass"


# ---- overhead ---------------------------------------------------------------------------------


async def overhead(clients, address: str, texts: list[str], args) -> str:
    """Percentiles of one request at idle, and of the Engine alone."""
    model, params = latadj_jax.from_pretrained(args.model)
    tokenizer = latadj_jax.load_tokenizer(args.model)
    times_ms: dict[str, list[float]] = {"Engine": [], "HTTP": []}
    buckets = tuple(map(int, args.buckets.split(",")))
    with latadj_jax.Engine(
        model, params, tokenizer, alphas=(None,), buckets=buckets, batch_sizes=(1,), truncate=True
    ) as engine:
        engine.warmup()
        for n in range(50 + args.requests):
            text = texts[n % len(texts)]
            begun = time.perf_counter()
            engine([text], alpha=None)
            middle = time.perf_counter()
            status, _, answer = await clients["dense"].ask(text)
            ended = time.perf_counter()
            if status != 200:
                raise SystemExit(f"the server answered {status}: {answer[:200]!r}")
            if n >= 50:  # the first ones warm caches
                times_ms["Engine"].append(1e3 * (middle - begun))
                times_ms["HTTP"].append(1e3 * (ended - middle))
    added_ms = np.subtract(times_ms["HTTP"], times_ms["Engine"])
    rows = {**times_ms, "HTTP over Engine": added_ms}
    lines = ["| one text | p50, ms | p90, ms | p99, ms |", "|---|---|---|---|"]
    for name, ms in rows.items():
        p50, p90, p99 = np.percentile(ms, (50, 90, 99))
        lines.append(f"| {name} | {p50:.2f} | {p90:.2f} | {p99:.2f} |")
    return "\n".join(lines)


# ---- neighbour --------------------------------------------------------------------------------


async def neighbour(clients, address: str, texts: list[str], args) -> str:
    """The share in time of each second, for the adaptive server and for dense with refusal."""
    dense_per_s = args.per_s or await clients["dense"].closed_loop_per_s(texts, 10)
    lines = [
        f"dense answers {dense_per_s:.0f} texts a second; load {args.load:g}; a neighbour from "
        f"{args.alone_s:g} to {args.alone_s + args.busy_s:g} s",
        "",
        "| system | before | with it, first 5 s | with it, later | after it | seconds below 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("adaptive", "dense with refusal"):
        due_s, in_time = await _beside_a_neighbour(clients[name], texts, dense_per_s, args)
        from_s, until_s = args.alone_s, args.alone_s + args.busy_s
        shares = [
            float(in_time[(due_s >= a) & (due_s < b)].mean())
            for a, b in (
                (0, from_s), (from_s, from_s + 5), (from_s + 5, until_s), (until_s, due_s[-1])
            )
        ]  # fmt: skip
        seconds = np.arange(int(args.busy_s))
        by_second = np.array(
            [in_time[(due_s >= from_s + s) & (due_s < from_s + s + 1)].mean() for s in seconds]
        )
        low = np.flatnonzero(by_second < 0.95)
        last = f"{len(low)}, the last of them number {low[-1] + 1}" if len(low) else "none"
        cells = " | ".join(f"{share:.1%}" for share in shares)
        lines.append(f"| {name} | {cells} | {last} |")
    return "\n".join(lines)


async def _beside_a_neighbour(client, texts, dense_per_s, args):
    """(when each request was due [N], whether it was answered in time [N])."""
    per_s, seconds = args.load * dense_per_s, 2 * args.alone_s + args.busy_s
    due_s = arrivals_s(args.arrivals, per_s, int(per_s * seconds), args.seed)

    async def disturb() -> None:
        await asyncio.sleep(args.alone_s)
        busy = subprocess.Popen(
            [sys.executable, "-c", BUSY], preexec_fn=lambda: os.sched_setaffinity(0, {0})
        )
        await asyncio.sleep(args.busy_s)
        busy.kill()
        busy.wait()

    _, found = await asyncio.gather(disturb(), client.open_loop(texts, due_s))
    return due_s, found.ends_ms <= args.slo_ms


# ---- soak -------------------------------------------------------------------------------------


async def soak(clients, address: str, texts: list[str], args) -> str:
    """Memory, errors and compilations, minute by minute."""
    dense_per_s = args.per_s or await clients["dense"].closed_loop_per_s(texts, 10)
    client, per_s = clients["adaptive"], args.load * dense_per_s
    lines = [
        f"dense answers {dense_per_s:.0f} texts a second; load {args.load:g}",
        "",
        "| minute | requests | in time | not answered | errors | MiB | compilations |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    memory_mib = []
    for minute in range(1, args.minutes + 1):
        due_s = arrivals_s(args.arrivals, per_s, int(60 * per_s), args.seed + minute)
        answers = await client.open_loop(texts, due_s)
        statuses, in_time = answers.statuses, answers.ends_ms <= args.slo_ms
        page = httpx.get(f"{address}/metrics").text
        memory_mib.append(_metric(page, "process_resident_memory_bytes") / 2**20)
        compiled = _metric(page, 'latadj_compilations_total{when="serving"}')
        refused = (statuses != 200).sum()
        failed = ((statuses >= 500) & (statuses != 504)).sum()  # 504: too late, and said so
        lines.append(
            f"| {minute} | {len(due_s)} | {in_time.mean():.1%} | {refused} | {failed} "
            f"| {memory_mib[-1]:.0f} | {compiled:.0f} |"
        )
        print(lines[-1], flush=True)
    growth = memory_mib[-1] / memory_mib[0] - 1
    return "\n".join([*lines, "", f"memory after the last minute, over the first: {growth:+.1%}"])


def _metric(page: str, name: str) -> float:
    return float(re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)[1])


# ---- all of them ------------------------------------------------------------------------------

CHECKS = {"overhead": overhead, "neighbour": neighbour, "soak": soak}


async def check(addresses: dict[str, str], args) -> str:
    texts, _ = read_texts(args.texts, args.labelled, args.max_texts)
    connections = await connect(addresses["ours"])
    speeds = speeds_of(addresses["ours"], args.slo_ms)
    clients = {
        name: client_of(SYSTEMS[name], connections, speeds, args.labelled)
        for name in ("adaptive", "dense", "dense with refusal")
    }
    found = await CHECKS[args.check](clients, addresses["ours"], texts, args)
    connections.close()
    return found


def main() -> None:
    parser = common_arguments(__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--minutes", type=int, default=30, help="of soak")
    parser.add_argument("--requests", type=int, default=500, help="of overhead")
    parser.add_argument("--alone_s", type=float, default=10, help="before and after the neighbour")
    parser.add_argument("--busy_s", type=float, default=30, help="that the neighbour is there")
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with serving({"ours"}, args) as addresses:
        found = asyncio.run(check(addresses, args))
    print(found)
    (out / f"{args.check}.md").write_text(found + "\n")


if __name__ == "__main__":
    main()
