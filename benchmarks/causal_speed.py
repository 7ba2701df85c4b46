"""Time to first token, cache and time per later token of a causal model, dense and pruned.

    python benchmarks/causal_speed.py --model MODEL --layers 4-19 --strategy recall \
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

import latadj_jax
from latadj_jax import Profile
from latadj_jax.measure import interleaved_ms, median
from latadj_jax.perplexity import cache_bytes


def main(args: argparse.Namespace) -> None:
    model, params = latadj_jax.from_pretrained(args.model, "lm", dtype=args.dtype)
    layers = [int(n) for n in args.layers.split("-")]
    profile = Profile.at_layers(model.config.num_layers, layers)
    model = model.replace(profile=profile, strategy=args.strategy)
    theirs = torch_model(model, params) if args.torch else None
    rows = []
    for length in args.lengths:
        rows += measure(model, params, theirs, length, args)
        if args.out:
            about = {**vars(args), "out": None, "jax": jax.__version__, "cores": os.cpu_count()}
            text = json.dumps({"about": about, "rows": rows}, indent=1)
            Path(args.out).write_text(text + "\n")


def measure(model, params, theirs, length: int, args) -> list[dict]:
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, length))
    batch = jax.device_put({"input_ids": ids.astype(np.int32)})
    rows = {"dense": {"alpha": None}}
    for speedup in args.speedups:
        alpha = latadj_jax.solve_alpha(model.profile, length, speedup)
        rows[f"pruned {speedup:g}x"] = {"alpha": alpha}
    runs = {}
    for name, row in rows.items():
        plan = model.plan(row["alpha"], length)
        row["expected_speedup"] = latadj_jax.expected_speedup(plan)
        row["cache_bytes"] = cache_bytes(model, plan)

        def generate(num, plan=plan):
            return latadj_jax.generate(model, params, batch, None, num, plan=plan, stop_tokens=())

        start = time.perf_counter()
        generate(1).block_until_ready()
        row["compile_and_first_run_s"] = time.perf_counter() - start
        runs[name, 1] = lambda generate=generate: generate(1)
        runs[name, args.new] = lambda generate=generate: generate(args.new)
    times = {key: median(values) for key, values in interleaved_ms(runs, args.repeats).items()}
    if theirs is not None:  # in turns of its own: its threads go on spinning for a while
        rows["dense again"], rows["torch dense"] = dict(rows["dense"]), {"alpha": None}
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
    text = (
        f"{row['length']:5} {row['name']:>12}  first token {row['first_token_ms']:7.0f} ms "
        f"({row['measured_speedup']:.2f}x)  later {row['per_token_ms']:6.1f} ms"
    )
    if "cache_bytes" in row:
        text += (
            f"  expected {row['expected_speedup']:.2f}x  cache {row['cache_bytes'] / 1e6:.1f} MB"
        )
    return text


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
    parser.add_argument("--layers", required=True)
    parser.add_argument("--strategy", default="recall")
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[2])
    parser.add_argument("--lengths", type=lambda t: [int(x) for x in t.split(",")], default=[512])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new", type=int, default=33)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--out")
    main(parser.parse_args())
