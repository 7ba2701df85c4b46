"""Graphs for onnxruntime and its like: one for each (padded length, alpha), over one weights file.

folder/export.json              what each graph is for
folder/weights.bin              the weights, once for all graphs
folder/length128_alpha0.9.onnx  a graph; any batch size
folder/config.json, tokenizer.json, ...  as Hugging Face has them
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from latadj_jax.elimination.alpha import alphas_of, slowest_first
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.extras import require
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model, check_params
from latadj_jax.pretrained import convert
from latadj_jax.pretrained.save import write_description
from latadj_jax.serving.export import all_or_nothing, check_exported, name_of
from latadj_jax.tasks.answers import ANSWERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = "weights.bin"
QUANTIZED = ("int8",)
# Names of outputs, as Optimum has them.
OUTPUTS = {
    "logits": "logits", "embedding": "sentence_embedding", "hidden": "last_hidden_state",
    "pooled": "pooler_output", "positions": "positions",
}  # fmt: skip
SPANS = ("start_logits", "end_logits")


def export_onnx(
    folder: str | Path,
    model: Model,
    params,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    alphas: Sequence[float | None] = (),
    buckets: Sequence[int] = (),
    quantize: str | None = None,
    progress: bool = False,
) -> dict:
    """Writes ONNX graphs, one for each (padded length, alpha), for any batch size B.

    A graph takes int64 [B, T]: `input_ids`, `attention_mask` and what else the tokenizer gives. It
    returns float32 `logits` [B, C] (where each token has an answer [B, T, C]),
    `start_logits` and `end_logits` [B, T], `sentence_embedding` [B, D], or for "features"
    `last_hidden_state` [B, K, D] of what is kept, its `positions` int32 [B, K] and
    `pooler_output` [B, D].

    Args:
      folder: the folder to write; new or empty.
      tokenizer: the model's tokenizer. It is saved, too, and says which inputs there are.
      alphas: the alphas to export. Dense (None) and the model's own are always among them.
      buckets: padded lengths T; by default 16, 24, 32, 48, ... up to 128, or to what the model
        reads.
      quantize: "int8" stores the weights of products in 8 bits: a smaller file, less exact.

    Returns:
      What export.json says of them.

    Raises:
      ValueError: a folder that is not empty, or a model that cannot be exported.
    """
    require("onnx", "onnx", *(["onnxruntime"] if quantize else []))
    folder = Path(folder)
    check_exported(folder, model)
    check_params(model, params)
    if model.dtype != "float32":
        raise ValueError(f"an ONNX graph computes in float32; the model's dtype is {model.dtype}.")
    if quantize not in (None, *QUANTIZED):
        raise ValueError(f"quantize must be one of {', '.join(QUANTIZED)}; it is {quantize!r}.")
    from latadj_jax.onnx_graph.weights import SharedWeights

    alphas = slowest_first((None, model.alpha, *alphas_of(alphas)))
    buckets = serving_buckets(buckets, model.config.max_positions)
    names = model.inputs_of(tokenizer)
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    about: dict[str, Any] = {
        "format": 1, "kind": "onnx", "task": model.task, "labels": model.config.labels,
        "weights": WEIGHTS, "quantized": quantize, "inputs": [*names, "attention_mask"],
        "outputs": [], "graphs": [],
    }  # fmt: skip
    with all_or_nothing(folder):
        tensors = convert.to_tensors(model.family, model.record.head, params)
        write_description(folder, model, "float32", tensors, tokenizer)
        shared = SharedWeights(folder / WEIGHTS)
        wanted = [(length, alpha) for length in buckets for alpha in alphas]
        for length, alpha in tqdm(wanted, desc="export", unit="graph", disable=not progress):
            plan = model.plan(alpha, length)
            graph = graph_of(model, params, names, plan, quantize)
            shared.move(graph)
            file = f"{name_of(length, alpha)}.onnx"
            (folder / file).write_bytes(graph.SerializeToString())
            about["outputs"] = [output.name for output in graph.graph.output]
            about["graphs"].append(
                {"file": file, "length": length, "alpha": alpha,
                 "expected_speedup": expected_speedup(plan)}
            )  # fmt: skip
        (folder / "export.json").write_text(json.dumps(about, indent=1) + "\n")  # last
    return about


def graph_of(model: Model, params, names: Sequence[str], plan, quantize: str | None = None):
    """The graph of one plan, an onnx.ModelProto that holds its weights; `names` are its inputs."""
    from latadj_jax.onnx_graph.convert import to_onnx
    from latadj_jax.onnx_graph.quantize import quantize_int8

    def run(params, inputs):
        out = model.module.apply({"params": params}, inputs, model.head_plan(plan))
        if model.record is ANSWERS:
            return {name: out.logits[:, :, n] for n, name in enumerate(SPANS)}
        given = {OUTPUTS[name]: getattr(out, name) for name in model.record.outputs}
        return {name: value for name, value in given.items() if value is not None}

    (batch,) = jax.export.symbolic_shape("B")
    inputs = {name: jax.ShapeDtypeStruct((batch, plan.length), jnp.int32) for name in names}
    inputs["attention_mask"] = jax.ShapeDtypeStruct((batch, plan.length), bool)
    try:
        graph = to_onnx(run, params, inputs)
    except NotImplementedError as error:
        raise ValueError(
            f"a {model.family.name} for {model.task!r} is not exported to ONNX yet: {error}."
        ) from None
    return quantize_int8(graph) if quantize else graph
