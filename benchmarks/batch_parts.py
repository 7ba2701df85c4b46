"""How many rows of a batch are best computed at once: BERT-base shapes, dense and pruned.

    python benchmarks/batch_parts.py --shapes 32x128,8x512,8x256,32x64

In turns, medians; `latadj_jax/model/row_chunks.py` chooses by the rule that these times suggest.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import numpy as np

import latadj_jax
from latadj_jax.families.config import config_from_hf
from latadj_jax.model.row_chunks import rows_at_once
from latadj_jax.timing import interleaved_ms, median

BERT_BASE = json.loads((Path(__file__).parent / "runtimes/bert_base.json").read_text())


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def logits(model, plan, rows, params, inputs):
    def run(inputs):
        return model.module.apply({"params": params}, inputs, plan).logits

    return jax.lax.map(run, {key: x.reshape(-1, rows, plan.length) for key, x in inputs.items()})


def main(args: argparse.Namespace) -> None:
    config = config_from_hf({**BERT_BASE, "num_hidden_layers": args.layers})
    print("| dtype | shape | expected speedup | ms by rows of a part | chosen |")
    print("|---" * 5 + "|")
    for dtype in ("bfloat16", "float32"):
        model = latadj_jax.Model(config, "classification", dtype=dtype)
        params = latadj_jax.init_params(latadj_jax.Model(config, "classification"))
        params = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), params)
        for batch, length in args.shapes:
            ids = np.random.default_rng(0).integers(1000, 30000, (batch, length)).astype(np.int32)
            inputs = {"input_ids": ids, "attention_mask": np.ones((batch, length), bool)}
            for speedup in args.speedups:
                alpha = latadj_jax.solve_alpha(model.profile, length, speedup)
                plan = model.plan(alpha, length)
                sizes = [rows for rows in (1, 2, 4, 8, 16, 32) if rows <= batch]
                runs = {
                    rows: functools.partial(logits, model, plan, rows, params, inputs)
                    for rows in sizes[-4:]
                }
                times = interleaved_ms(runs, args.repeats)
                cells = ", ".join(f"{rows}: {median(ms):.0f}" for rows, ms in times.items())
                chosen = rows_at_once(batch, length)
                print(
                    f"| {dtype} | {batch}x{length} | {speedup:g} | {cells} | {chosen} |", flush=True
                )


def shapes(text: str) -> list[tuple[int, int]]:
    return [tuple(int(n) for n in shape.split("x")) for shape in text.split(",")]


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=shapes, default="32x128,8x512,8x256,32x64")
    parser.add_argument("--speedups", type=numbers, default="1,3")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args())
