"""Graphs of `latadj export` in onnxruntime: dense and with elimination, float32 and int8."""

import functools
import os

import numpy as np
import worker
from ours import weights

import latadj_jax
from latadj_jax.onnx_graph.runtime import load_onnxruntime
from latadj_jax.serving.export_onnx import graph_of

onnxruntime = load_onnxruntime()


@functools.cache
def session(dtype: str, num_layers: int, length: int, rates: tuple[float, ...]):
    model, params = weights("float32", num_layers)
    quantize = "int8" if dtype == "int8" else None
    plan = latadj_jax.Plan(length, rates, strategy="score")
    graph = graph_of(model, params, ["input_ids"], plan, quantize)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    return onnxruntime.InferenceSession(graph.SerializeToString(), options)


def build(variant: dict, shape: dict):
    rates = tuple(variant["rates"])
    run = session(variant["dtype"], shape["layers"], shape["length"], rates).run
    size = (shape["batch"], shape["length"])
    ids = np.random.default_rng(0).integers(1000, 30000, size)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return lambda: run(["logits"], inputs)


if __name__ == "__main__":
    worker.serve(build)
