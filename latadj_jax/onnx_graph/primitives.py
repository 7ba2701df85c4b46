"""Primitives of JAX as operators of ONNX: arithmetic, reductions, shapes.

A lowering is a function of (graph, parameters, output shapes and dtypes, input values) that gives
the output values. Products are in products.py, look-ups by index in rows.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from latadj_jax.onnx_graph.graph import Graph, Value

BOOL, INT64 = np.dtype(bool), np.dtype(np.int64)


class Like(NamedTuple):
    """What an output is in JAX."""

    shape: tuple
    dtype: np.dtype


Lowering = Callable[[Graph, dict, Sequence[Like], Sequence[Value]], list[Value]]
LOWERINGS: dict[str, Lowering] = {}


def lowers(*primitives: str) -> Callable[[Lowering], Lowering]:
    """A decorator: the function lowers these primitives."""

    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(primitives, lowering))
        return lowering

    return register


# ---- one number after another -------------------------------------------------------------

ELEMENTWISE = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max",
    "min": "Min", "pow": "Pow", "neg": "Neg", "abs": "Abs", "sign": "Sign", "exp": "Exp",
    "log": "Log", "sqrt": "Sqrt", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf",
    "sin": "Sin", "cos": "Cos", "floor": "Floor", "ceil": "Ceil", "and": "And", "or": "Or",
    "xor": "Xor", "not": "Not", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual",
}  # fmt: skip
# (operator, number, which side it may stand on): what changes nothing.
NEUTRAL = {"Mul": (1, (0, 1)), "Div": (1, (1,)), "Add": (0, (0, 1)), "Sub": (0, (1,))}


def elementwise(graph: Graph, op: str, like: Like, *inputs: Value) -> Value:
    """An operator that broadcasts as NumPy does."""
    number, sides = NEUTRAL.get(op, (None, ()))
    for side in sides:
        if inputs[side].is_all(number):
            other = inputs[1 - side]
            if other.shape == like.shape:
                return other
    inputs = [graph.without_ones(x) for x in inputs]
    return graph.add(op, inputs, like.shape, like.dtype, stored_together(like.shape, inputs))


def stored_together(shape: tuple, inputs: Sequence[Value]) -> tuple:
    """What is stored of a result of that shape."""
    rows = [(1,) * (len(shape) - len(v.stored)) + v.stored for v in inputs]
    return tuple(1 if all(row[n] == 1 for row in rows) else shape[n] for n in range(len(shape)))


def _lower_elementwise(op: str) -> Lowering:
    def lower(graph, params, outs, inputs):
        return [elementwise(graph, op, outs[0], *inputs)]

    return lower


LOWERINGS.update({name: _lower_elementwise(op) for name, op in ELEMENTWISE.items()})


@lowers("ne")
def _ne(graph, params, outs, inputs):
    equal = elementwise(graph, "Equal", outs[0], *inputs)
    return [elementwise(graph, "Not", outs[0], equal)]


@lowers("square")
def _square(graph, params, outs, inputs):
    return [elementwise(graph, "Mul", outs[0], inputs[0], inputs[0])]


@lowers("integer_pow")
def _integer_pow(graph, params, outs, inputs):
    if params["y"] == 2:
        return _square(graph, params, outs, inputs)
    exponent = graph.constant(np.asarray(params["y"], outs[0].dtype))
    return [elementwise(graph, "Pow", outs[0], inputs[0], exponent)]


@lowers("rsqrt")
def _rsqrt(graph, params, outs, inputs):
    root = elementwise(graph, "Sqrt", outs[0], *inputs)
    return [elementwise(graph, "Reciprocal", outs[0], root)]


@lowers("is_finite")
def _is_finite(graph, params, outs, inputs):
    size = elementwise(graph, "Abs", Like(inputs[0].shape, inputs[0].dtype), inputs[0])
    most = graph.constant(np.finfo(np.float32).max)
    return [elementwise(graph, "LessOrEqual", outs[0], size, most)]


@lowers("clamp")
def _clamp(graph, params, outs, inputs):
    low, x, high = inputs
    above = elementwise(graph, "Max", outs[0], x, low)
    return [elementwise(graph, "Min", outs[0], above, high)]


@lowers("select_n")
def _select_n(graph, params, outs, inputs):
    which, if_false, if_true = inputs
    if which.const is not None and (which.const == which.const.flat[0]).all():
        return [if_true if which.const.flat[0] else if_false]
    lowest = outs[0].dtype == np.float32 and if_false.is_all(np.finfo(np.float32).min)
    if lowest and which.stored != which.shape:
        # Of a mask that many rows share: numbers under 1e31 vanish beside the lowest one.
        like = Like(which.shape, outs[0].dtype)
        zero = graph.constant(np.float32(0))
        added = graph.add("Where", [which, zero, if_false], like.shape, like.dtype, which.stored)
        return [elementwise(graph, "Add", outs[0], if_true, added)]
    return [elementwise(graph, "Where", outs[0], which, if_true, if_false)]


@lowers("convert_element_type")
def _convert(graph, params, outs, inputs):
    return [graph.cast(inputs[0], outs[0].dtype)]


@lowers(
    "stop_gradient",
    "copy",
    "copy_p",
    "optimization_barrier",
    "sharding_constraint",
    "reduce_precision",
    "pvary",
)
def _same(graph, params, outs, inputs):
    return list(inputs)


# ---- sums along axes ----------------------------------------------------------------------

REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_or": "ReduceMax", "reduce_and": "ReduceMin",
}  # fmt: skip


def _lower_reduction(op: str) -> Lowering:
    def lower(graph, params, outs, inputs):
        (x,), (out,), axes = inputs, outs, sorted(params["axes"])
        if any(x.stored[n] != x.shape[n] for n in axes):
            x = graph.full(x)
        x = graph.cast(x, np.int32) if x.dtype == BOOL else x
        stored = tuple(n for axis, n in enumerate(x.stored) if axis not in axes)
        numbers = graph.list_of(axes)
        made = graph.add(op, [x, numbers], out.shape, x.dtype, stored, keepdims=0)
        return [graph.cast(made, out.dtype)]

    return lower


LOWERINGS.update({name: _lower_reduction(op) for name, op in REDUCTIONS.items()})


def _lower_arg(op: str) -> Lowering:
    def lower(graph, params, outs, inputs):
        (x,), (axis,) = inputs, params["axes"]
        x = graph.full(graph.cast(x, np.int32) if x.dtype == BOOL else x)
        made = graph.add(op, [x], outs[0].shape, INT64, axis=axis, keepdims=0)
        return [graph.cast(made, outs[0].dtype)]

    return lower


LOWERINGS |= {"argmax": _lower_arg("ArgMax"), "argmin": _lower_arg("ArgMin")}


@lowers("cumsum")
def _cumsum(graph, params, outs, inputs):
    axis = graph.constant(np.int64(params["axis"]))
    x = graph.full(inputs[0])
    reverse = int(params["reverse"])
    return [graph.add("CumSum", [x, axis], outs[0].shape, outs[0].dtype, reverse=reverse)]


# ---- shapes -------------------------------------------------------------------------------


@lowers("broadcast_in_dim")
def _broadcast_in_dim(graph, params, outs, inputs):
    x, shape = inputs[0], outs[0].shape
    places = params["broadcast_dimensions"]
    ones = [1] * len(shape)
    thin, stored = list(ones), list(ones)
    for axis, place in enumerate(places):
        thin[place], stored[place] = x.shape[axis], x.stored[axis]
    x = graph.reshape(x, tuple(thin))  # as many axes; what it had, it has
    return [Value(x.name, shape, tuple(stored), x.dtype, x.const)]


@lowers("reshape", "squeeze", "expand_dims")
def _reshape(graph, params, outs, inputs):
    return [graph.reshape(inputs[0], outs[0].shape)]


@lowers("transpose")
def _transpose(graph, params, outs, inputs):
    return [graph.transpose(inputs[0], params["permutation"])]


@lowers("iota")
def _iota(graph, params, outs, inputs):
    shape, axis = outs[0].shape, params["dimension"]
    thin = [1] * len(shape)
    thin[axis] = shape[axis]
    numbers = np.arange(shape[axis], dtype=outs[0].dtype).reshape(thin)
    return [graph.constant(numbers, shape)]


@lowers("concatenate")
def _concatenate(graph, params, outs, inputs):
    every = [graph.full(x) for x in inputs]
    return [graph.add("Concat", every, outs[0].shape, outs[0].dtype, axis=params["dimension"])]


@lowers("stack")
def _stack(graph, params, outs, inputs):
    axis = params["axis"]
    shape = (*outs[0].shape[:axis], 1, *outs[0].shape[axis + 1 :])
    parts = [graph.reshape(graph.full(x), shape) for x in inputs]
    return [graph.add("Concat", parts, outs[0].shape, outs[0].dtype, axis=axis)]


def sliced(graph: Graph, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """A range along one axis."""
    size = len(range(start, stop, step))
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    bounds = [graph.list_of([n]) for n in (start, stop, axis, step)]
    return graph.add("Slice", [graph.full(x), *bounds], shape, x.dtype)


@lowers("slice")
def _slice(graph, params, outs, inputs):
    x = inputs[0]
    steps = params["strides"] or (1,) * len(x.shape)
    bounds = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    for axis, (start, stop, step) in enumerate(bounds):
        if (start, stop, step) != (0, x.shape[axis], 1):  # never so of the open size
            x = sliced(graph, x, axis, start, stop, step)
    return [x]


@lowers("split")
def _split(graph, params, outs, inputs):
    start, parts = 0, []
    for size in params["sizes"]:
        parts.append(sliced(graph, inputs[0], params["axis"], start, start + size))
        start += size
    return parts


@lowers("rev")
def _rev(graph, params, outs, inputs):
    x = inputs[0]
    for axis in params["dimensions"]:
        x = sliced(graph, x, axis, x.shape[axis] - 1, -x.shape[axis] - 1, -1)
        x = Value(x.name, outs[0].shape, outs[0].shape, x.dtype)
    return [x]


@lowers("pad")
def _pad(graph, params, outs, inputs):
    x, filling = inputs
    if any(low < 0 or high < 0 or inner for low, high, inner in params["padding_config"]):
        raise NotImplementedError("a pad that cuts, or pads between numbers")
    lows, highs, _ = zip(*params["padding_config"], strict=True)
    inputs = [graph.full(x), graph.list_of([*lows, *highs]), filling]
    return [graph.add("Pad", inputs, outs[0].shape, outs[0].dtype)]
