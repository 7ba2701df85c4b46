"""A graph of a classifier in onnxruntime, on all cores: for exported.py and onnxruntime_cpu.py."""

import os

import numpy as np
import onnxruntime


def session(graph: str | bytes) -> onnxruntime.InferenceSession:
    """Of a file, or of the bytes of a graph that holds its weights."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def logits_of(graph: onnxruntime.InferenceSession, shape: dict):
    """A function without arguments: the logits of random ids of this batch and length."""
    ids = np.random.default_rng(0).integers(1000, 30000, (shape["batch"], shape["length"]))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return lambda: graph.run(["logits"], inputs)
