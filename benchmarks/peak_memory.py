"""What a long text's pass needs beside the weights: ModernBERT-base, ours and transformers' torch.

    python benchmarks/peak_memory.py --lengths 2048,4096,8192 --out FILE.json

Each cell is a process of its own, of one text and random weights: the second pass, by how much the
resident memory rises above what it was before (Linux). torch has its fused attention (sdpa).
"""

import argparse
import ctypes
import json
import multiprocessing
import re
from pathlib import Path

import jax
import numpy as np
from long_texts import MODERNBERT_BASE, program, torch_model

import latadj_jax
from latadj_jax.families.registry import config_from_hf

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(args: argparse.Namespace) -> None:
    systems = ["dense", *(f"{s:g}x" for s in args.speedups), "torch dense"]
    rows = []
    print("| MB | " + " | ".join(f"1x{n}" for n in args.lengths) + " |")
    print("|---" * (len(args.lengths) + 1) + "|", flush=True)
    for system in systems:
        cells = [in_own_process(system, length, args.layers, args.dtype) for length in args.lengths]
        print(f"| {system} | " + " | ".join(f"{mb:.0f}" for mb in cells) + " |", flush=True)
        rows += [{"system": system, "length": n, "mb": mb}
                 for n, mb in zip(args.lengths, cells, strict=True)]  # fmt: skip
    if args.out:
        text = json.dumps({"about": {**vars(args), "jax": jax.__version__}, "rows": rows}, indent=1)
        Path(args.out).write_text(text + "\n")


def in_own_process(*case) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_mb, case)


def peak_mb(system: str, length: int, layers: int, dtype: str) -> float:
    """How far memory rises in the second pass of `system`."""
    config = config_from_hf({**MODERNBERT_BASE, "num_hidden_layers": layers})
    model = latadj_jax.Model(config, "classification", dtype=dtype)
    params = latadj_jax.init_params(model)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (1, length), np.int32)
    if system == "torch dense":
        theirs = torch_model(model, params)
        del params

        def run():
            return theirs(ids)
    else:
        alpha = None if system == "dense" else model.solve_alpha(length, float(system[:-1]))
        plan = model.plan(alpha, length)
        inputs = jax.device_put({"input_ids": ids, "attention_mask": np.ones((1, length), bool)})
        compiled = program(
            lambda params, inputs: model.module.apply({"params": params}, inputs, plan).logits,
            params,
            inputs,
        )

        def run():
            return np.asarray(compiled())

    run()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is no longer resident
    CLEAR.write_text("5")  # forgets the peak so far
    before = status_mb("VmRSS")
    run()
    return status_mb("VmHWM") - before


def status_mb(name: str) -> float:
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text()).group(1)) / 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", type=lambda t: [int(x) for x in t.split(",")],
                        default=[2048, 4096, 8192])  # fmt: skip
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[3])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--out")
    main(parser.parse_args())
