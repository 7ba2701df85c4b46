"""ModernBERT-base on long texts, with random weights: dense and pruned, beside transformers' torch.

    python benchmarks/long_texts.py --shapes 1x512,1x2048 --speedups 3 --out FILE.json

"one block" is ours with all attention weights of a layer at once, as BERT has them. torch is dense,
with its fused attention (sdpa), and as many threads as the process has cores. In turns in one
process, medians; the rate is constant in all layers.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np

import latadj_jax
from latadj_jax.families import encoder_attention
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import interleaved_ms, median

MODERNBERT_BASE = {
    "model_type": "modernbert",
    "architectures": ["ModernBertForSequenceClassification"],
    "vocab_size": 50368,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "classifier_pooling": "mean",
}


def main(args: argparse.Namespace) -> None:
    config = config_from_hf({**MODERNBERT_BASE, "num_hidden_layers": args.layers})
    model = latadj_jax.Model(config, "classification", dtype=args.dtype)
    params = latadj_jax.init_params(model)
    theirs = torch_model(model, params) if args.torch else None
    rows = []
    print("| shape | variant | expected | ms | over ours dense |\n" + "|---" * 5 + "|", flush=True)
    for batch, length in args.shapes:
        rows += measure(model, params, theirs, batch, length, args)
        if args.out:
            about = {**vars(args), "out": None, "jax": jax.__version__, "cores": cores()}
            text = json.dumps({"about": about, "rows": rows}, indent=1)
            Path(args.out).write_text(text + "\n")


def measure(model, params, theirs, batch: int, length: int, args) -> list[dict]:
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (batch, length), np.int32)
    mask = np.ones((batch, length), bool)
    inputs = jax.device_put({"input_ids": ids, "attention_mask": mask})
    plans = {"dense": model.plan(None, length)}
    for speedup in args.speedups:
        plans[f"{speedup:g}x"] = model.plan(model.solve_alpha(length, speedup), length)
    runs: dict[str, Callable] = {}
    for name, plan in plans.items():

        def logits(params, inputs, plan=plan):
            return model.module.apply({"params": params}, inputs, plan).logits

        runs[name] = program(logits, params, inputs)
        if args.one_block:
            with mock.patch.object(encoder_attention, "block_size", return_value=length):
                runs[f"{name}, one block"] = program(lambda p, x, f=logits: f(p, x), params, inputs)
    if theirs is not None:
        runs["torch dense"] = lambda: theirs(ids)
    found = interleaved_ms(runs, args.repeats)
    rows = []
    for name, times in found.items():
        plan = plans.get(name.split(",")[0])
        row = {"batch": batch, "length": length, "name": name, "ms": median(times), "times": times,
               "over_dense": median(found["dense"]) / median(times)}  # fmt: skip
        if plan is not None:
            row["expected_speedup"] = latadj_jax.expected_speedup(plan)
        expected = f"{row['expected_speedup']:.2f}" if plan else ""
        cells = (
            f"{batch}x{length}",
            name,
            expected,
            f"{row['ms']:.0f}",
            f"{row['over_dense']:.2f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)
        rows.append(row)
    return rows


def program(run: Callable, params, inputs) -> Callable:
    """`run`, compiled now."""
    compiled = jax.jit(run).lower(params, inputs).compile()
    return lambda: compiled(params, inputs)


def torch_model(model, params) -> Callable:
    """transformers on the same weights, as a function of ids."""
    import torch
    import transformers

    torch.set_num_threads(cores())
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        auto = transformers.AutoModelForSequenceClassification
        theirs = auto.from_pretrained(folder, dtype=getattr(torch, model.dtype)).eval()

    def run(ids):
        with torch.inference_mode():
            return theirs(torch.from_numpy(ids)).logits.numpy()

    return run


def cores() -> int:
    """Those that this process may use; `taskset` sets them."""
    return len(os.sched_getaffinity(0))


def shape_of(text: str) -> tuple[int, int]:
    batch, _, length = text.partition("x")
    return int(batch), int(length)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--shapes", type=lambda t: [shape_of(x) for x in t.split(",")], default="1x512,1x2048"
    )
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[3])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--one-block", action="store_true")
    parser.add_argument("--out")
    main(parser.parse_args())
