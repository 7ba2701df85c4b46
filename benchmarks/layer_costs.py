"""What each operation of a dense BERT-base layer costs, beside the same operation in torch.

    OMP_WAIT_POLICY=passive python benchmarks/layer_costs.py --shapes 1x512,8x128 --out FILE.json

Each runs alone, ours compiled, on arrays of its own; a norm includes the sum before it. "the layer"
is all of it in one program, or one module, which may fuse what stands apart here. In turns in one
process, medians of milliseconds, times how many of it a layer has. OMP_WAIT_POLICY lets torch's
threads sleep between two turns.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from encoder_speed import comma_separated, shape_of
from torch.nn import functional

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.layers.activations import gelu
from latadj_jax.layers.attention import attend, attention_weights
from latadj_jax.layers.norms import layer_norm
from latadj_jax.layers.products import product
from latadj_jax.timing import interleaved_ms, median

BERT_BASE = json.loads((Path(__file__).parent / "runtimes" / "bert_base.json").read_text())
WIDTH, WIDE, HEADS = 768, 3072, 12


def dense(x, kernel, bias):
    return (product("BLD,DE->BLE", x, kernel) + bias).astype(x.dtype)


def heads(x):
    return x.reshape(*x.shape[:2], HEADS, -1)


def attention(q, k, v, valid):
    mask = valid[:, None, :]
    weights, totals = attention_weights(heads(q), heads(k).swapaxes(1, 2), mask)
    return attend(weights, totals, heads(v).swapaxes(1, 2))


def norm(x, y, scale, bias):
    wide = (x + y).astype(jnp.float32)
    return layer_norm(wide, scale, bias, 1e-12).astype(x.dtype)


def torch_attention(q, k, v, valid):
    q, k, v = (x.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=valid[:, None, None, :])
    return out.transpose(1, 2).flatten(2)


def torch_norm(x, y, scale, bias):
    return functional.layer_norm(x + y, (WIDTH,), scale, bias, 1e-12)


def operations(batch: int, length: int) -> dict:
    """By name: how many of it a layer has, ours, torch's, and the shapes of what it takes."""
    x, wide, row, wide_row = (batch, length, WIDTH), (batch, length, WIDE), (WIDTH,), (WIDE,)
    linear = functional.linear
    return {
        "product, 768 to 768": (4, dense, linear, [x, (WIDTH, WIDTH), row]),
        "attention": (1, attention, torch_attention, [x, x, x, (batch, length)]),
        "norm": (2, norm, torch_norm, [x, x, row, row]),
        "product, 768 to 3072": (1, dense, linear, [x, (WIDTH, WIDE), wide_row]),
        "GELU": (1, gelu, functional.gelu, [wide]),
        "product, 3072 to 768": (1, dense, linear, [wide, (WIDE, WIDTH), row]),
    }


def arrays(name: str, shapes, dtype: str):
    """The same numbers for both; torch stores kernels transposed, norms of ours are float32."""
    made = [
        np.random.default_rng(n).normal(size=s).astype(np.float32) for n, s in enumerate(shapes)
    ]
    theirs = [torch.from_numpy(a).to(getattr(torch, dtype)) for a in made]
    ours = [jnp.asarray(a, jnp.float32 if a.ndim == 1 else dtype) for a in made]
    if name.startswith("product"):
        theirs[1], ours[2] = theirs[1].T.contiguous(), ours[2].astype(dtype)
    if name == "attention":
        ours[3], theirs[3] = jnp.ones(shapes[3], bool), torch.ones(shapes[3], dtype=torch.bool)
    return ours, theirs


def layers(batch: int, length: int, dtype: str):
    """Whole models of one layer and of three: half of the difference is a layer alone."""
    ids = np.random.default_rng(0).integers(1000, 30000, (batch, length), np.int32)
    found = {}
    for depth in (1, 3):
        model = latadj_jax.Model(
            config_from_hf({**BERT_BASE, "num_hidden_layers": depth}), "classification", dtype=dtype
        )
        params = jax.tree.map(lambda x: x.astype(dtype), latadj_jax.init_params(model))
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids, bool)}
        apply = jax.jit(functools.partial(latadj_jax.apply, model, plan=model.plan(None, length)))
        found["ours", depth] = functools.partial(lambda f, *a: f(*a).logits, apply, params, inputs)
        config = transformers.BertConfig(num_hidden_layers=depth, attn_implementation="sdpa")
        theirs = transformers.BertForSequenceClassification(config).eval()
        theirs = theirs.to(getattr(torch, dtype))
        batch_of = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.ones(ids.shape)}
        found["torch", depth] = functools.partial(theirs, **batch_of)
    return found


@torch.inference_mode()
def measured(batch: int, length: int, dtype: str, repeats: int) -> list[dict]:
    runs, counts = layers(batch, length, dtype), {}
    for name, (count, ours, theirs, shapes) in operations(batch, length).items():
        own, other = arrays(name, shapes, dtype)
        runs["ours", name] = functools.partial(jax.jit(ours), *own)
        runs["torch", name] = functools.partial(theirs, *other)
        counts[name] = count
    ms = {key: median(times) for key, times in interleaved_ms(runs, repeats).items()}
    for runtime in ("ours", "torch"):
        ms[runtime, "the layer"] = (ms[runtime, 3] - ms[runtime, 1]) / 2
    return [
        {"dtype": dtype, "shape": f"{batch}x{length}", "operation": name, "count": count,
         "ours": count * ms["ours", name], "torch": count * ms["torch", name]}
        for name, count in {**counts, "the layer": 1}.items()
    ]  # fmt: skip


def main(args: argparse.Namespace) -> None:
    print("| dtype | shape | operation | in a layer | ours, ms | torch, ms |\n" + "|---" * 6 + "|")
    rows = []
    for dtype in args.dtypes:
        for batch, length in args.shapes:
            found = measured(batch, length, dtype, args.repeats)
            for row in found:
                *named, ours, theirs = row.values()
                print("|", *(f"{v} |" for v in named), f"{ours:.2f} | {theirs:.2f} |", flush=True)
            rows += found
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=comma_separated(shape_of), default="1x512,8x128")
    parser.add_argument("--dtypes", type=comma_separated(str), default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--out", help="a JSON file of the same numbers")
    main(parser.parse_args())
