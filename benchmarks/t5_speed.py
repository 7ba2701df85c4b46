"""Encoder speedup of the Flan-T5 shapes, beside the paper's, and latency of a whole `generate`.

    python benchmarks/t5_speed.py --sizes base,large --lengths 512,1024 \
        --alphas 0.98,0.95,0.93,0.9,0.85,0.8 --out FILE.json
    python benchmarks/t5_speed.py --generate --lengths 512 --alphas 0.95,0.9 --out FILE.json

Random weights and token ids, batch 1, profile 1 everywhere as in the paper (arXiv 2201.03327, Table
VI), dense and pruned in turns in one process, medians. "share of the bias" is the part of the time
that is saved when no relative position bias is added. `--generate` compares with transformers on
torch, the same weights, in turns of its own.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import latadj_jax
from latadj_jax.elimination.alpha import alpha_label, alpha_name
from latadj_jax.families.encoders import t5
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import interleaved_ms, median

FLAN_T5 = {"model_type": "t5", "vocab_size": 32128, "d_kv": 64, "feed_forward_proj": "gated-gelu",
           "tie_word_embeddings": False, "pad_token_id": 0, "eos_token_id": 1,
           "decoder_start_token_id": 0}  # fmt: skip
SIZES = {
    "base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
}
PAPER = {
    "base": {0.98: 1.18, 0.95: 1.41, 0.93: 1.58, 0.90: 1.83, 0.85: 2.34, 0.80: 2.94},
    "large": {0.98: 1.29, 0.95: 1.78, 0.93: 2.23, 0.90: 3.08},
}


def make(size: str, task: str, dtype: str):
    config = config_from_hf({**FLAN_T5, **SIZES[size]})
    model = latadj_jax.Model(config, task, dtype=dtype)
    model = model.replace(profile=latadj_jax.Profile.constant(config.num_layers))
    params = latadj_jax.init_params(model)
    return model, jax.tree.map(lambda x: x.astype(dtype), params)


def encoders(args) -> list[dict]:
    print(
        "| shape | tokens | alpha | expected speedup | paper | measured speedup | ms |"
        " share of the bias |\n" + "|---" * 8 + "|"
    )
    rows = []
    for size in args.sizes:
        model, params = make(size, "features", args.dtype)
        for length in args.lengths:
            rows += measure_encoder(size, model, params, length, args)
    return rows


def measure_encoder(size: str, model, params, length: int, args) -> list[dict]:
    ids = np.random.default_rng(0).integers(2, 32000, (1, length)).astype(np.int32)
    inputs = jax.device_put({"input_ids": ids, "attention_mask": np.ones((1, length), bool)})
    plans = {alpha: model.plan(alpha, length) for alpha in (None, *args.alphas)}
    runs = {alpha: encoder(model.module, params, inputs, plan) for alpha, plan in plans.items()}
    without = model.module.clone(family=dataclasses.replace(t5.FAMILY, module=T5WithoutBias))
    for alpha, plan in plans.items():
        runs["no bias", alpha] = encoder(without, params, inputs, plan)
    times = {key: median(values) for key, values in interleaved_ms(runs, args.repeats).items()}
    rows = []
    for alpha, plan in plans.items():
        row = {
            "size": size, "length": length, "alpha": alpha,
            "expected_speedup": latadj_jax.expected_speedup(plan),
            "paper": PAPER[size].get(alpha), "measured_speedup": times[None] / times[alpha],
            "ms": times[alpha], "share_of_bias": 1 - times["no bias", alpha] / times[alpha],
        }  # fmt: skip
        rows.append(row)
        cells = (
            size, length, alpha_name(alpha),
            f"{row['expected_speedup']:.2f}", f"{row['paper']:.2f}" if row["paper"] else "",
            f"{row['measured_speedup']:.2f}", f"{row['ms']:.0f}", f"{row['share_of_bias']:.1%}",
        )  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return rows


def encoder(module, params, inputs, plan):
    def hidden(params, inputs):  # alone: a dense pass has no use for its scores
        return module.apply({"params": params}, inputs, plan).hidden

    compiled = jax.jit(hidden)
    return lambda: compiled(params, inputs)


class T5WithoutBias(t5.T5):
    """An encoder that knows nothing of positions."""

    def bias(self, positions_BL, length: int) -> jax.Array:
        return jnp.zeros((1, 1, 1, 1), jnp.float32)


def generates(args) -> list[dict]:
    """Source of each length, args.new greedy tokens, in milliseconds."""
    print("| shape | tokens | variant | first token, ms | each later token, ms | whole, ms |")
    print("|---" * 6 + "|")
    rows = []
    for size in args.sizes:
        model, params = make(size, "seq2seq", args.dtype)
        theirs = torch_model(model, params)
        for length in args.lengths:
            ids = np.random.default_rng(0).integers(2, 32000, (1, length)).astype(np.int32)
            ours, runs = {}, {}
            for alpha in (None, *args.alphas):
                name = alpha_label(alpha)
                ours[name] = generator(model, params, ids, alpha)
            for num in (1, args.new):
                runs |= {(name, num): lambda f=f, num=num: f(num) for name, f in ours.items()}
            times = interleaved_ms(runs, args.repeats)
            # In turns of its own: torch's threads go on spinning for a while.
            others = {"dense again": ours["dense"], "torch dense": partial(theirs, ids)}
            runs = {(name, num): lambda f=f, num=num: f(num) for num in (1, args.new)
                    for name, f in others.items()}  # fmt: skip
            times |= interleaved_ms(runs, args.repeats)
            for name in (*ours, *others):
                first, whole = median(times[name, 1]), median(times[name, args.new])
                later = (whole - first) / (args.new - 1)
                row = {"size": size, "length": length, "name": name, "new": args.new}
                rows.append({**row, "first_token_ms": first, "per_token_ms": later, "ms": whole})
                cells = f"{first:.0f} | {later:.1f} | {whole:.0f}"
                print(f"| {size} | {length} | {name} | {cells} |", flush=True)
    return rows


def generator(model, params, ids, alpha):
    batch = jax.device_put({"input_ids": ids})
    return lambda num: latadj_jax.generate(model, params, batch, alpha, num, stop_tokens=())


def torch_model(model, params):
    """transformers' `generate` on the same weights, as a function of (ids, number of tokens)."""
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        theirs = transformers.T5ForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, model.dtype)
        ).eval()

    def run(ids, num):
        with torch.inference_mode():
            theirs.generate(
                torch.from_numpy(ids.astype(np.int64)), max_new_tokens=num, min_new_tokens=num,
                do_sample=False,
            )  # fmt: skip

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=lambda t: t.split(","), default=["base"])
    parser.add_argument("--lengths", type=lambda t: [int(x) for x in t.split(",")], default=[512])
    parser.add_argument("--alphas", type=lambda t: [float(x) for x in t.split(",")], default=[0.9])
    parser.add_argument("--generate", action="store_true")
    parser.add_argument("--new", type=int, default=33)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()
    about = {**vars(args), "jax": jax.__version__, "cores": os.cpu_count()}
    rows = generates(args) if args.generate else encoders(args)
    if args.out:
        Path(args.out).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
