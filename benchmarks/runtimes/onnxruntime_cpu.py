"""onnxruntime on the same BERT, fused by its own optimizer: float32 and dynamic int8."""

import functools
import tempfile
from pathlib import Path

import onnx
import onnx_session
import torch
import transformers
import worker
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model

FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def exported(num_layers: int) -> Path:
    """A BERT for classification with random weights, attention and norms fused."""
    torch.manual_seed(0)
    config = transformers.BertConfig(num_hidden_layers=num_layers, attn_implementation="eager")
    model = transformers.BertForSequenceClassification(config).eval()
    ids = torch.ones((2, 16), dtype=torch.int64)
    file, fused = Path(FOLDER.name) / "bert.onnx", Path(FOLDER.name) / "fused.onnx"
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch", 1: "length"} for name in names}
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), str(file), input_names=names,
        output_names=["logits"], dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    optimized = optimize_model(
        str(file), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    print(optimized.get_fused_operator_statistics())
    optimized.save_model_to_file(str(fused))
    return fused


@functools.cache
def session(dtype: str, num_layers: int):
    file = exported(num_layers)
    if dtype == "int8":
        quantized = file.with_name("int8.onnx")
        quantize_dynamic(
            file, quantized, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT}
        )
        file = quantized
    return onnx_session.session(str(file))


def build(variant: dict, shape: dict):
    return onnx_session.logits_of(session(variant["dtype"], shape["layers"]), shape)


if __name__ == "__main__":
    worker.serve(build)
