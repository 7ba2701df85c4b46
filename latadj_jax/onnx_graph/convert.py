"""A function of JAX as an ONNX model: its jaxpr, equation by equation."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import onnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import ClosedJaxpr, Literal

# Each registers what it lowers.
from latadj_jax.onnx_graph import products, rows  # noqa: F401
from latadj_jax.onnx_graph.calls import CALLS
from latadj_jax.onnx_graph.graph import Graph, Value
from latadj_jax.onnx_graph.primitives import ELEMENTWISE, LOWERINGS, Like

INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # the parameters that hold a function's jaxpr
ONE_BY_ONE = (*ELEMENTWISE, "ne", "select_n", "convert_element_type", "stop_gradient")
LOOK_UPS = ("_take", "take_along_axis")  # of JAX; ONNX counts indices below 0 from the end, too


def to_onnx(
    function: Callable, params, inputs: Mapping[str, jax.ShapeDtypeStruct]
) -> onnx.ModelProto:
    """The function's outputs as an ONNX model, with the parameters as its weights.

    Inputs are int64, whatever they are in JAX, as tokenizers give them.

    Args:
      function: of (params, inputs), that gives a dict of arrays; pure.
      params: a tree of arrays.
      inputs: the first axis of all has one open size, see `jax.export.symbolic_shape`.

    Raises:
      NotImplementedError: a primitive that has no lowering here.
    """
    flat = flatten_dict(params, sep="/")
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat.items()}
    outs = {}

    def run(flat, inputs):
        outs.update(function(unflatten_dict(flat, sep="/"), inputs))
        return list(outs.values())

    closed = jax.make_jaxpr(run)(shapes, dict(inputs))
    graph = Graph()
    graph.weights |= {name: np.asarray(x) for name, x in flat.items()}
    weights = {
        name: Value(name, tuple(x.shape), tuple(x.shape), np.dtype(x.dtype))
        for name, x in flat.items()
    }
    given = {
        name: Value(name, tuple(x.shape), tuple(x.shape), np.dtype(np.int64))
        for name, x in inputs.items()
    }
    graph.batch_from(given["input_ids"])
    cast = [graph.cast(given[name], inputs[name].dtype) for name in sorted(given)]
    every = [*(weights[name] for name in sorted(weights)), *cast]
    found = _lower(graph, closed, every, [True] * len(outs))
    return graph.model(given, dict(zip(outs, found, strict=True)))


def _lower(graph: Graph, closed: ClosedJaxpr, inputs, needed, inside: str = "") -> list:
    """The values of a jaxpr's outputs; None of one that is not needed."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.invars, inputs, strict=True))
    known = zip(jaxpr.constvars, closed.consts, strict=True)
    values |= {v: graph.constant(np.asarray(array)) for v, array in known}

    def value(v) -> Value:
        if isinstance(v, Literal):
            return graph.constant(np.asarray(v.val, v.aval.dtype))
        return values[v]

    wanted = _wanted(jaxpr, needed)
    for number, eqn in enumerate(jaxpr.eqns):
        if number not in wanted:
            continue
        outs = [Like(tuple(v.aval.shape), np.dtype(v.aval.dtype)) for v in eqn.outvars]
        given = [value(v) for v in eqn.invars]
        if inside in LOOK_UPS and eqn.primitive.name == "select_n":
            found = [given[1]]  # not `index + size`, which it is where it is below 0
        else:
            found = _lower_equation(graph, eqn, outs, given, wanted[number])
        values |= dict(zip(eqn.outvars, found, strict=True))
    return [value(v) if need else None for v, need in zip(jaxpr.outvars, needed, strict=True)]


def _wanted(jaxpr, needed) -> dict[int, list[bool]]:
    """The equations whose outputs are read, by their number, and which of these are."""
    live = {
        v
        for v, need in zip(jaxpr.outvars, needed, strict=True)
        if need and not isinstance(v, Literal)
    }
    wanted = {}
    for number in reversed(range(len(jaxpr.eqns))):
        eqn = jaxpr.eqns[number]
        read = [v in live for v in eqn.outvars]
        if any(read):
            wanted[number] = read
            live |= {v for v in eqn.invars if not isinstance(v, Literal)}
    return wanted


def _lower_equation(graph: Graph, eqn, outs, inputs, needed) -> list:
    name, params = eqn.primitive.name, eqn.params
    if params.get("name") in CALLS:
        return CALLS[params["name"]](graph, params, outs, inputs)
    inner = next((params[key] for key in INLINED if key in params), None)
    if inner is not None and name not in LOWERINGS:
        if not isinstance(inner, ClosedJaxpr):
            inner = ClosedJaxpr(inner, ())
        return _lower(graph, inner, inputs, needed, params.get("name", ""))
    if name not in LOWERINGS:
        raise NotImplementedError(f"the primitive {name!r} of JAX has no operator of ONNX here")
    if inputs and all(x.const is not None for x in inputs) and name != "broadcast_in_dim":
        known = _computed(graph, eqn, inputs)
        if known is not None:
            return known
    found = LOWERINGS[name](graph, params, outs, inputs)
    for like, made in zip(outs, found, strict=True):
        assert (made.shape, made.dtype) == (like.shape, like.dtype), (name, like, made)
    return found


def _computed(graph: Graph, eqn, inputs) -> list[Value] | None:
    """Of constants alone the numbers themselves; None where that takes an open size."""
    shapes = [x.shape for x in (*inputs, *(v.aval for v in eqn.outvars))]
    if all(isinstance(n, int) for shape in shapes for n in shape):
        arrays = [np.broadcast_to(x.const, x.shape) for x in inputs]
        shapes = [None] * len(eqn.outvars)
    elif eqn.primitive.name in ONE_BY_ONE:
        stored = np.broadcast_shapes(*(x.stored for x in inputs))
        arrays = [np.broadcast_to(x.const, stored) for x in inputs]
        shapes = [v.aval.shape for v in eqn.outvars]
    else:
        return None
    found = eqn.primitive.bind(*arrays, **eqn.params)
    found = found if eqn.primitive.multiple_results else [found]
    return [graph.constant(np.asarray(x), shape) for x, shape in zip(found, shapes, strict=True)]
