"""Weights of matrix products in 8 bits; what they are multiplied with is quantized as it comes.

Only products with a weight: attention, its scores and softmax, norms and look-ups stay float32.
"""

import tempfile
from pathlib import Path

import onnx

from latadj_jax.onnx_graph.runtime import load_onnxruntime


def quantize_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with products of int8 weights, one scale for each column.

    Weights have 7 bits of the 8: on processors without VNNI more would overflow.

    Source: onnxruntime's dynamic quantization.
    """
    load_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Shapes are known and nothing is left to be fused: it need not advise to prepare the graph.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model, file, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(file)
