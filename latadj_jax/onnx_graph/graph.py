"""An ONNX graph in the making: values with shapes, nodes, constants.

A value knows two shapes: the one it has in JAX, and the one it is stored in, which has 1 along each
axis that it was only broadcast to. Operators that broadcast by themselves get the stored one, so
that few arrays are ever expanded.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 20  # onnxruntime 1.17 and later
IR_VERSION = 9
BATCH = "batch"  # the name of the one axis whose size is open


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the graph.

    Attributes:
      name: of the node's output, input or weight; "" of a constant that no node reads yet.
      shape: as in JAX; a size is an integer, or symbolic.
      stored: the same, or 1 along axes that it is broadcast to.
      const: its numbers, of the stored shape, where they are known.
    """

    name: str
    shape: tuple
    stored: tuple
    dtype: np.dtype
    const: np.ndarray | None = None

    @property
    def is_full(self) -> bool:
        return self.shape == self.stored

    def is_all(self, number: float) -> bool:
        """Whether it is known to be that number everywhere."""
        return self.const is not None and bool((self.const == number).all())


class Graph:
    """Nodes, in the order in which they were added."""

    def __init__(self):
        self.weights: dict[str, np.ndarray] = {}
        self._constants: dict[tuple, str] = {}
        self._made_by: dict[str, onnx.NodeProto] = {}
        self._cast_from: dict[str, np.dtype] = {}  # the dtype of what was cast
        self._nodes: dict[tuple, onnx.NodeProto] = {}  # in order, by what they compute
        self._reshaped: dict[str, Value] = {}  # what was reshaped, by what it became

    def constant(self, array, shape: tuple | None = None) -> Value:
        """Known numbers; stored once, however often they are given.

        Args:
          shape: what they are broadcast to.
        """
        array = np.asarray(array)
        if array.size > 1 and (array == array.flat[0]).all():
            shape = array.shape if shape is None else shape
            array = array.reshape(-1)[:1].reshape((1,) * array.ndim)
        return Value("", array.shape if shape is None else shape, array.shape, array.dtype, array)

    def list_of(self, numbers: Sequence[int]) -> Value:
        """Sizes or axes, as operators take them: int64 [n]."""
        array = np.array(numbers, np.int64)
        return Value("", array.shape, array.shape, array.dtype, array)

    def name_of(self, value: Value) -> str:
        """What a node calls the value as it is stored."""
        if value.name:
            return value.name
        array = value.const
        key = (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.weights[self._constants[key]] = array
        return self._constants[key]

    def add(
        self, op: str, inputs: Sequence[Value | str], shape, dtype, stored=None, **attributes
    ) -> Value:
        """A node with one output; the same node as before where there is one."""
        return self.add_many(op, inputs, [(shape, dtype, stored)], **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[Value | str], outputs, **attributes):
        """A node with several outputs, each (shape, dtype, stored)."""
        names = [name if isinstance(name, str) else self.name_of(name) for name in inputs]
        key = (op, *names, str(sorted(attributes.items())))
        if key not in self._nodes:
            number = len(self._nodes)
            outs = [f"{op}_{number}" + (f"_{n}" if n else "") for n in range(len(outputs))]
            node = helper.make_node(op, names, outs, name=outs[0], **attributes)
            self._nodes[key] = node
            self._made_by |= dict.fromkeys(outs, node)
        return [
            Value(name, tuple(shape), tuple(shape if stored is None else stored), np.dtype(dtype))
            for name, (shape, dtype, stored) in zip(self._nodes[key].output, outputs, strict=True)
        ]

    def maker(self, value: Value) -> onnx.NodeProto | None:
        """The node that gives a value."""
        return self._made_by.get(value.name)

    # ---- what many operators need -----------------------------------------------------------

    def full(self, value: Value) -> Value:
        """The value, stored in its whole shape."""
        if value.is_full:
            return value
        if value.const is not None and all(isinstance(n, int) for n in value.shape):
            whole = np.ascontiguousarray(np.broadcast_to(value.const, value.shape))
            return Value("", value.shape, value.shape, value.dtype, whole)
        shape = self.shape_like(value.shape)
        return self.add("Expand", [value, shape], value.shape, value.dtype)

    def shape_like(self, shape: tuple) -> Value:
        """A shape as an int64 array, for operators that take no -1 in it."""
        sizes = [n if isinstance(n, int) else None for n in shape]
        if None not in sizes:
            return self.list_of(sizes)
        parts = [self._batch_size if n is None else self.list_of([n]) for n in sizes]
        if len(parts) == 1:
            return parts[0]
        return self.add("Concat", parts, (len(parts),), np.int64, axis=0)

    def batch_from(self, value: Value) -> None:
        """Names the input whose first axis has the open size."""
        self._batch_size = self.add("Shape", [value], (1,), np.int64, start=0, end=1)

    def reshape(self, value: Value, shape: tuple) -> Value:
        """Another shape of the same numbers."""
        if shape == value.shape:
            return value
        stored = _moved_ones(value, shape)
        if stored is None:
            value, stored = self.full(value), shape
        if value.const is not None:
            return Value("", shape, stored, value.dtype, value.const.reshape(stored))
        sizes = self.list_of([n if isinstance(n, int) else -1 for n in stored])
        if (sizes.const < 0).sum() > 1:
            raise NotImplementedError(f"a reshape to {shape} has two open sizes")
        source = self._reshaped.get(value.name, value)
        if source.stored == stored:
            return dataclasses.replace(source, shape=shape, stored=stored)
        made = self.add("Reshape", [source, sizes], shape, value.dtype, stored)
        self._reshaped[made.name] = source
        return made

    def without_ones(self, value: Value) -> Value:
        """Without axes of 1 in front, where that is what was reshaped: operators add them."""
        source = self._reshaped.get(value.name)
        more = len(value.stored) - len(source.stored) if source else 0
        if more > 0 and value.stored == (*[1] * more, *source.stored):
            return dataclasses.replace(source, shape=value.shape[more:])
        return value

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Axes in another order; two such nodes in a row are one."""
        order = list(order)
        if order == sorted(order):
            return value
        shape, stored = (tuple(of[n] for n in order) for of in (value.shape, value.stored))
        if value.const is not None:
            return Value("", shape, stored, value.dtype, value.const.transpose(order))
        if all(n == 1 for n in stored):
            return dataclasses.replace(value, shape=shape, stored=stored)
        node = self.maker(value)
        if node is not None and node.op_type == "Transpose":
            before = list(node.attribute[0].ints)
            order = [before[n] for n in order]
            source = dataclasses.replace(value, name=node.input[0])
            if order == sorted(order):
                return Value(source.name, shape, stored, value.dtype)
            return self.add("Transpose", [source], shape, value.dtype, stored, perm=order)
        return self.add("Transpose", [value], shape, value.dtype, stored, perm=order)

    def cast(self, value: Value, dtype) -> Value:
        """Another dtype; a cast that takes one back is none."""
        dtype = np.dtype(dtype)
        if dtype == value.dtype:
            return value
        if value.const is not None:
            return dataclasses.replace(value, name="", dtype=dtype, const=value.const.astype(dtype))
        node = self.maker(value)
        if node is not None and node.op_type == "Cast" and {dtype, value.dtype} == _INTEGERS:
            source = self._cast_from.get(node.input[0])
            if source == dtype:
                return dataclasses.replace(value, name=node.input[0], dtype=dtype)
        made = self.add(
            "Cast", [value], value.shape, dtype, value.stored,
            to=helper.np_dtype_to_tensor_dtype(dtype),
        )  # fmt: skip
        self._cast_from[value.name] = value.dtype
        return made

    # ---- at the end ---------------------------------------------------------------------------

    def model(self, inputs: dict[str, Value], outputs: dict[str, Value]) -> onnx.ModelProto:
        """The graph as a file has it, with only what its outputs need."""
        named = [
            helper.make_node("Identity", [self.name_of(self.full(value))], [name])
            for name, value in outputs.items()
        ]
        needed, kept = {node.input[0] for node in named}, []
        for node in reversed(self._nodes.values()):
            if needed & {*node.output}:
                kept.insert(0, node)
                needed |= {*node.input}
        kept += named
        graph = helper.make_graph(
            kept, "latadj", [_info(*item) for item in inputs.items()],
            [_info(*item) for item in outputs.items()],
            [numpy_helper.from_array(np.asarray(array, order="C"), name)
             for name, array in self.weights.items() if name in needed],
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="latadj_jax")
        model.ir_version = IR_VERSION
        return model


_INTEGERS = {np.dtype(np.int32), np.dtype(np.int64)}


def _info(name: str, value: Value) -> onnx.ValueInfoProto:
    sizes = [n if isinstance(n, int) else BATCH for n in value.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), sizes)


def _moved_ones(value: Value, shape: tuple) -> tuple | None:
    """What is stored of the new shape, where it differs from the old one in axes of 1 alone."""
    old = [(n, stored) for n, stored in zip(value.shape, value.stored, strict=True) if n != 1]
    if [n for n, _ in old] != [n for n in shape if n != 1]:
        return None
    stored = iter(stored for _, stored in old)
    return tuple(1 if n == 1 else next(stored) for n in shape)
