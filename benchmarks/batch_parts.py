"""How many rows of a batch are best computed at once: BERT-base shapes, dense and pruned.

    python benchmarks/batch_parts.py --shapes 32x128,8x512,8x256,32x64
    python benchmarks/batch_parts.py --width 384 --layers 6  # as MiniLM

In turns, medians, of parts computed one after another, and at once on all cores, as an Engine does.
`latadj_jax/model/row_chunks.py` chooses by the rules that these times suggest.
"""

import argparse
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.model.row_chunks import cores, rows_at_once, rows_beside
from latadj_jax.timing import interleaved_ms, median

BERT_BASE = json.loads((Path(__file__).parent / "runtimes/bert_base.json").read_text())


@functools.partial(jax.jit, static_argnums=(0, 1))
def of_part(model, plan, params, inputs):
    return model.module.apply({"params": params}, inputs, plan).logits


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def one_after_another(model, plan, rows, params, inputs):
    parts = {key: x.reshape(-1, rows, plan.length) for key, x in inputs.items()}
    return jax.lax.map(functools.partial(of_part, model, plan, params), parts)


def at_once(pool, model, plan, rows, params, inputs):
    def compute(first: int):
        part = {key: x[first : first + rows] for key, x in inputs.items()}
        return jax.block_until_ready(of_part(model, plan, params, part))

    return [*pool.map(compute, range(0, len(inputs["input_ids"]), rows))]


def main(args: argparse.Namespace) -> None:
    widths = {"hidden_size": args.width, "intermediate_size": 4 * args.width}
    config = config_from_hf({**BERT_BASE, **widths, "num_hidden_layers": args.layers})
    pool = ThreadPoolExecutor(cores() or 1)
    kinds = {"one after another": one_after_another, "at once": functools.partial(at_once, pool)}
    heads = " | ".join(f"rows: ms, {kind}; chosen" for kind in kinds)
    print(f"| dtype | shape | expected speedup | {heads} |")
    print("|---" * 5 + "|")
    for dtype in args.dtypes.split(","):
        model = latadj_jax.Model(config, "classification", dtype=dtype)
        params = latadj_jax.init_params(latadj_jax.Model(config, "classification"))
        params = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), params)
        for batch, length in args.shapes:
            ids = np.random.default_rng(0).integers(1000, 30000, (batch, length)).astype(np.int32)
            inputs = {"input_ids": ids, "attention_mask": np.ones((batch, length), bool)}
            for speedup in args.speedups:
                alpha = latadj_jax.solve_alpha(model.profile, length, speedup)
                plan = model.plan(alpha, length)
                sizes = [rows for rows in (1, 2, 4, 8, 16, 32) if rows <= batch][-4:]
                runs = {
                    (kind, rows): functools.partial(run, model, plan, rows, params, inputs)
                    for kind, run in kinds.items()
                    for rows in sizes
                }
                times = interleaved_ms(runs, args.repeats)
                left = float(np.mean(plan.counts, where=plan.runs))
                chosen = rows_at_once(batch, length), rows_beside(batch, length, left, cores())
                cells = [
                    ", ".join(f"{rows}: {median(times[kind, rows]):.0f}" for rows in sizes)
                    for kind in kinds
                ]
                print(
                    f"| {dtype} | {batch}x{length} | {speedup:g} "
                    f"| {cells[0]}; {chosen[0]} | {cells[1]}; {chosen[1]} |", flush=True
                )  # fmt: skip


def shapes(text: str) -> list[tuple[int, int]]:
    return [tuple(int(n) for n in shape.split("x")) for shape in text.split(",")]


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=shapes, default="32x128,8x512,8x256,32x64")
    parser.add_argument("--speedups", type=numbers, default="1,3")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--repeats", type=int, default=7)
    main(parser.parse_args())
