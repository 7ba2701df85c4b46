"""Time to first token, cache and time per later token of a causal model, dense and pruned.

    python benchmarks/causal_speed.py --model MODEL --variants recall@4-19,score@constant \
        --speedups 1.5,2,3 --lengths 512,1024,2048 --torch --out FILE.json

Batch 1, greedy, random token ids, dense and pruned in turns in one process, medians. `--torch` adds
transformers' `generate` on the same weights (dense), with as many threads as there are cores, in
turns with our dense.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from variants import Variant, alpha_of

import latadj_jax
from latadj_jax.evaluation.perplexity import cache_bytes
from latadj_jax.timing import interleaved_ms, median


def main(args: argparse.Namespace) -> None:
    model, params = latadj_jax.from_pretrained(args.model, "lm", dtype=args.dtype)
    theirs = torch_model(model, params) if args.torch else None
    rows = []
    print(
        "| prompt | variant | expected speedup | measured speedup | first token, ms | cache, MB |"
        " each later token, ms |\n" + "|---" * 7 + "|"
    )
    for length in args.lengths:
        rows += measure(model, params, theirs, length, args)
        if args.out:
            about = {**vars(args), "out": None, "jax": jax.__version__, "cores": os.cpu_count()}
            text = json.dumps({"about": about, "rows": rows}, indent=1)
            Path(args.out).write_text(text + "\n")


def measure(model, params, theirs, length: int, args) -> list[dict]:
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, length))
    batch = jax.device_put({"input_ids": ids.astype(np.int32)})
    cases = {"dense": ({"variant": "dense", "speedup": 1}, model.plan(None, length))}
    for variant in args.variants:
        pruned = variant.of(model)
        for speedup in args.speedups:
            plan = pruned.plan(alpha_of(pruned, length, speedup), length)
            row = {"variant": str(variant), "speedup": speedup}
            cases[f"{variant} {speedup:g}x"] = row, plan
    runs = {}
    for name, (row, plan) in cases.items():
        row["expected_speedup"] = latadj_jax.expected_speedup(plan)
        row["cache_bytes"] = cache_bytes(model, plan)

        def generate(num, plan=plan):
            return latadj_jax.generate(model, params, batch, None, num, plan=plan, stop_tokens=())

        start = time.perf_counter()
        generate(1).block_until_ready()
        row["compile_and_first_run_s"] = time.perf_counter() - start
        runs[name, 1] = lambda generate=generate: generate(1)
        runs[name, args.new] = lambda generate=generate: generate(args.new)
    rows = {name: row for name, (row, _) in cases.items()}
    times = {key: median(values) for key, values in interleaved_ms(runs, args.repeats).items()}
    if theirs is not None:  # in turns of its own: its threads go on spinning for a while
        ours = {key: rows["dense"][key] for key in ("expected_speedup", "cache_bytes")}
        rows["dense again"], rows["torch dense"] = ours, {}  # no variants: of other turns
        runs = {("dense again", num): runs["dense", num] for num in (1, args.new)}
        runs |= {("torch dense", num): lambda num=num: theirs(ids, num) for num in (1, args.new)}
        others = interleaved_ms(runs, args.repeats)
        times |= {key: median(values) for key, values in others.items()}
    for name, row in rows.items():
        base = "dense again" if name in ("dense again", "torch dense") else "dense"
        first, whole = times[name, 1], times[name, args.new]
        row |= {"name": name, "length": length, "first_token_ms": first,
                "per_token_ms": (whole - first) / (args.new - 1),
                "measured_speedup": times[base, 1] / first}  # fmt: skip
        print(line(row), flush=True)
    return list(rows.values())


def line(row: dict) -> str:
    """A row of the Markdown table."""
    ours = "cache_bytes" in row
    cells = (
        f"{row['length']}",
        row["name"],
        f"{row['expected_speedup']:.2f}" if ours else "",
        f"{row['measured_speedup']:.2f}",
        f"{row['first_token_ms']:.0f}",
        f"{row['cache_bytes'] / 1e6:.1f}" if ours else "",
        f"{row['per_token_ms']:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def torch_model(model, params):
    """transformers' `generate` on the same weights, as a function of (ids, number of tokens)."""
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    dtype = getattr(torch, model.dtype)
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def run(ids, num):
        ids = torch.from_numpy(ids)
        with torch.inference_mode():
            theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=num,
                min_new_tokens=num,
                do_sample=False,
                pad_token_id=0,
            )

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--variants", type=lambda t: [Variant.parse(x) for x in t.split(",")], required=True
    )
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[2])
    parser.add_argument("--lengths", type=lambda t: [int(x) for x in t.split(",")], default=[512])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new", type=int, default=33)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--out")
    main(parser.parse_args())
