"""Graphs of `latadj export` in onnxruntime: dense and with elimination, float32 and int8."""

import functools

import onnx_session
import worker
from ours import weights

import latadj_jax
from latadj_jax.serving.export_onnx import graph_of


@functools.cache
def session(dtype: str, num_layers: int, plan: latadj_jax.Plan):
    model, params = weights("float32", num_layers)
    graph = graph_of(model, params, ["input_ids"], plan, "int8" if dtype == "int8" else None)
    return onnx_session.session(graph.SerializeToString())


def build(variant: dict, shape: dict):
    plan = latadj_jax.Plan(shape["length"], tuple(variant["rates"]), strategy="score")
    return onnx_session.logits_of(session(variant["dtype"], shape["layers"], plan), shape)


if __name__ == "__main__":
    worker.serve(build)
