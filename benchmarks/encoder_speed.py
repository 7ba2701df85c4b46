"""BERT-base for classification: latadj_jax beside torch and onnxruntime, dense and pruned.

    python benchmarks/encoder_speed.py --shapes 1x128,8x128,1x512 --out FILE.json
    python benchmarks/encoder_speed.py --runtimes ours,torch --shapes 8x128 --dtypes bfloat16

Each runtime is a process of its own (runtimes/), with random weights; they take turns, `--rounds`
times, for every variant of every shape, and never run at once. Medians. "exported" are graphs of
`latadj export` in onnxruntime, float32 and int8. `--ours` is the interpreter of both (with onnx
and onnxruntime), `--others` that of torch (with transformers) and of onnxruntime (with onnx and
onnxscript). The plan is a constant rate in all layers; torch pruned has the same counts. "over
dense" is over our dense pass of the same dtype, of an exported graph over the dense graph.

"bound" is arithmetic over the machine's best matrix-product rate, plus parameters over its memory
bandwidth (a product on a CPU rearranges its weights before it multiplies), both measured in the
same run by the process of ours.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import median

HERE = Path(__file__).parent / "runtimes"
SCRIPTS = {
    "ours": "ours.py", "exported": "exported.py", "torch": "torch_cpu.py",
    "onnxruntime": "onnxruntime_cpu.py",
}  # fmt: skip
BERT_BASE = json.loads((HERE / "bert_base.json").read_text())


@dataclasses.dataclass(frozen=True)
class Variant:
    """What one column of the table is."""

    runtime: str
    name: str
    dtype: str
    speedup: float = 1.0  # expected; 1 is dense
    compiled: bool = False


def variants(args: argparse.Namespace) -> list[Variant]:
    """Every runtime dense, as fast as it goes, and what removes word-vectors at each speedup."""
    found = []
    for dtype in args.dtypes:
        for speedup in (1.0, *args.speedups):
            found.append(Variant("ours", _name(dtype, speedup), dtype, speedup))
            found.append(Variant("torch", _name(dtype, speedup), dtype, speedup))
        if args.compiled:
            found.append(Variant("torch", f"{dtype} dense, compiled", dtype, compiled=True))
    for dtype in ("float32", "int8"):
        found.append(Variant("onnxruntime", f"{dtype} dense", dtype))
        for speedup in (1.0, *args.speedups):
            found.append(Variant("exported", _name(dtype, speedup), dtype, speedup))
    return [variant for variant in found if variant.runtime in args.runtimes]


def _name(dtype: str, speedup: float) -> str:
    return f"{dtype} dense" if speedup == 1 else f"{dtype} {speedup:g}x"


class Worker:
    """A process that builds and times the variants of one runtime."""

    def __init__(self, python: str, script: str, log):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **question) -> dict:
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args[1]} ended; its errors are in the log.")
        return json.loads(answer)


def main(args: argparse.Namespace) -> None:
    config = config_from_hf({**BERT_BASE, "num_hidden_layers": args.layers})
    model = latadj_jax.Model(config, "classification")
    model = model.replace(profile=latadj_jax.Profile.constant(args.layers))
    asked = variants(args)
    with open(args.log, "w") as log:
        pythons = {"ours": args.ours, "exported": args.ours}
        workers = {
            runtime: Worker(pythons.get(runtime, args.others), SCRIPTS[runtime], log)
            for runtime in args.runtimes
        }
        machine = workers["ours"].ask(machine=args.dtypes)
        print(f"machine: {machine}", flush=True)
        print("| shape | runtime | variant | expected | ms | over dense | of the bound |")
        print("|---" * 7 + "|")
        rows = []
        for batch, length in args.shapes:
            rows += measure(workers, asked, model, batch, length, machine, args)
            save(args, machine, rows)


def measure(workers, asked, model, batch: int, length: int, machine: dict, args) -> list[dict]:
    plans = {
        speedup: model.plan(
            None if speedup == 1 else latadj_jax.solve_alpha(model.profile, length, speedup), length
        )
        for speedup in {variant.speedup for variant in asked}
    }
    shape = {"batch": batch, "length": length, "layers": model.config.num_layers}
    mine = {runtime: [v for v in asked if v.runtime == runtime] for runtime in workers}
    built: dict[Variant, float] = {}
    for runtime, worker in workers.items():
        questions = [
            {**dataclasses.asdict(v), "rates": plans[v.speedup].rates,
             "counts": None if v.speedup == 1 else plans[v.speedup].counts}
            for v in mine[runtime]
        ]  # fmt: skip
        seconds = worker.ask(build=questions, shape=shape)["built"]
        built |= {v: seconds[v.name] for v in mine[runtime]}
    times: dict[Variant, list[float]] = {variant: [] for variant in asked}
    for turn in range(args.rounds):
        order = asked if turn % 2 == 0 else asked[::-1]
        for variant in order:
            time.sleep(args.pause)  # threads of the one before stop spinning
            answer = workers[variant.runtime].ask(time=variant.name, seconds=args.seconds)
            times[variant].append(median(answer["ms"]))
    return [
        report(variant, built[variant], times, plans[variant.speedup], model, batch, machine)
        for variant in asked
    ]


def report(variant, built_s, times, plan, model, batch, machine) -> dict:
    ms = median(times[variant])
    own = "exported" if variant.runtime == "exported" else "ours"
    dense = Variant(own, _name(variant.dtype, 1), variant.dtype)
    row = {
        "runtime": variant.runtime, "name": variant.name, "dtype": variant.dtype,
        "speedup_asked": variant.speedup, "batch": batch, "length": plan.length,
        "expected_speedup": latadj_jax.expected_speedup(plan), "counts": plan.counts,
        "build_s": built_s, "ms": ms, "rounds_ms": times[variant],
    }  # fmt: skip
    if dense in times:
        row["measured_speedup"] = median(times[dense]) / ms
    if variant.dtype in machine:
        rate = machine[variant.dtype]["gflops"]
        arithmetic_ms = 2e-6 * batch * latadj_jax.macs(model, plan) / rate
        layer_bytes = machine[variant.dtype]["layer_bytes"] * model.config.num_layers
        reading_ms = 1e3 * layer_bytes / machine["bytes_per_s"]
        row |= {"arithmetic_ms": arithmetic_ms, "reading_ms": reading_ms}
        row["of_the_bound"] = (arithmetic_ms + reading_ms) / ms
    shown = [
        f"{row[key]:.2f}" if key in row else "" for key in ("measured_speedup", "of_the_bound")
    ]
    cells = (f"{batch}x{plan.length}", variant.runtime, variant.name,
             f"{row['expected_speedup']:.2f}", f"{ms:.1f}", *shown)  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)
    return row


def save(args, machine: dict, rows: list[dict]) -> None:
    if args.out:
        about = {**vars(args), "out": None, "log": None, "ours": None, "others": None}
        text = json.dumps({"about": about, "machine": machine, "rows": rows}, indent=1)
        Path(args.out).write_text(text + "\n")


def shape_of(text: str) -> tuple[int, int]:
    batch, _, length = text.partition("x")
    return int(batch), int(length)


def comma_separated(of):
    return lambda text: [of(part) for part in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=comma_separated(shape_of), default="1x128,8x128,1x512")
    parser.add_argument("--dtypes", type=comma_separated(str), default="float32,bfloat16")
    parser.add_argument("--speedups", type=comma_separated(float), default="1.5,2,3")
    parser.add_argument("--runtimes", type=comma_separated(str), default="ours,torch,onnxruntime")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: minutes each")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each variant in each round")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two variants")
    parser.add_argument("--ours", default=sys.executable, help="interpreter of latadj_jax")
    parser.add_argument("--others", default=sys.executable, help="interpreter of the others")
    parser.add_argument("--log", default=os.devnull)
    parser.add_argument("--out")
    main(parser.parse_args())
