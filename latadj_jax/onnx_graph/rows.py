"""Look-ups by index, and their inverse: Gather, GatherND, ScatterND.

Indices are those of JAX after its own arithmetic. What they give outside of an array is never read
(see eliminate.py), so they are only kept within it.
"""

import numpy as np

from latadj_jax.onnx_graph.graph import Graph, Value
from latadj_jax.onnx_graph.primitives import INT64, Like, elementwise, lowers


@lowers("gather")
def _gather(graph: Graph, params, outs, inputs):
    numbers, out = params["dimension_numbers"], outs[0]
    known = inputs[0].const
    if known is not None and known.size == 1:  # wherever one looks
        return [graph.constant(known.reshape((1,) * len(out.shape)), out.shape)]
    x, indices = graph.full(inputs[0]), inputs[1]
    if len(numbers.start_index_map) != 1:
        raise NotImplementedError("a look-up along several axes at once")
    (axis,) = numbers.start_index_map
    batching = numbers.operand_batching_dims
    sizes = params["slice_sizes"]
    whole = all(sizes[n] == x.shape[n] for n in range(len(sizes)) if n not in (axis, *batching))
    if not whole or numbers.collapsed_slice_dims != (axis,):
        raise NotImplementedError("a look-up of a part of a row")
    indices = graph.reshape(indices, indices.shape[:-1])
    if not batching:
        return [_by_gather(graph, x, indices, axis, numbers.offset_dims, out)]
    clips = params["mode"].name == "CLIP"
    if {numbers.operand_batching_dims, numbers.start_indices_batching_dims} != {
        tuple(range(len(batching)))
    }:
        return [_by_gather_elements(graph, x, indices, axis, numbers, out)]
    return [_by_gather_nd(graph, x, indices, axis, numbers, out, clips)]


def _by_gather(graph, x, indices, axis, offset_dims, out) -> Value:
    """x[..., indices, ...] along one axis, for all of the others."""
    of_indices = range(axis, axis + len(indices.shape))
    if [*offset_dims] != [n for n in range(len(out.shape)) if n not in of_indices]:
        raise NotImplementedError("a look-up whose axes come out in another order")
    return graph.add("Gather", [x, graph.full(indices)], out.shape, out.dtype, axis=axis)


def _by_gather_nd(graph, x, indices, axis, numbers, out, clips) -> Value:
    """x[b, ..., indices[b], ...]: rows of each example by its own indices.

    Axes between the examples' and the one that is looked up share the indices.
    """
    batches = len(numbers.operand_batching_dims)
    between = x.shape[batches:axis]
    found = indices.shape[batches:]
    if (*x.shape[:axis], *found, *x.shape[axis + 1 :]) != out.shape:
        raise NotImplementedError("a look-up whose axes come out in another order")
    indices = graph.cast(indices, INT64)
    if clips:
        last = graph.constant(np.int64(x.shape[axis] - 1))
        indices = elementwise(graph, "Min", Like(indices.shape, INT64), indices, last)
    indices = graph.reshape(
        graph.full(indices), (*indices.shape[:batches], *[1] * len(between), *found, 1)
    )
    if between:
        shape = (*x.shape[:axis], *found, 1)
        indices = graph.full(Value(indices.name, shape, indices.shape, INT64, indices.const))
    return graph.add("GatherND", [x, indices], out.shape, out.dtype, batch_dims=axis)


def _by_gather_elements(graph, x, indices, axis, numbers, out) -> Value:
    """x[..., indices[...], ...] along one axis, by an index of each number's own."""
    of_indices = [n for n in range(len(out.shape)) if n not in numbers.offset_dims]
    batching = [of_indices[n] for n in numbers.start_indices_batching_dims]
    others = [n for n in range(len(x.shape)) if n not in (axis, *batching)]
    if [*numbers.operand_batching_dims] != batching or [*numbers.offset_dims] != others:
        raise NotImplementedError("a look-up whose axes come out in another order")
    thin = tuple(n if place in of_indices else 1 for place, n in enumerate(out.shape))
    indices = graph.full(graph.reshape(graph.cast(indices, INT64), thin))
    indices = graph.full(Value(indices.name, out.shape, thin, INT64, indices.const))
    return graph.add("GatherElements", [x, indices], out.shape, out.dtype, axis=axis)


@lowers("scatter")
def _scatter(graph: Graph, params, outs, inputs):
    """x[b, indices[b]] = rows[b]; what lies outside goes into a row that is then cut off."""
    x, indices, rows = map(graph.full, inputs)
    numbers, out = params["dimension_numbers"], outs[0]
    if (*numbers.operand_batching_dims, *numbers.scatter_dims_to_operand_dims) != (0, 1) or (
        params["update_jaxpr"] is not None and params["update_jaxpr"].eqns
    ):
        raise NotImplementedError("writing elsewhere than into the rows of each example")
    batch, length, *width = x.shape
    spare = graph.full(graph.constant(np.zeros((1,) * len(x.shape), x.dtype), (batch, 1, *width)))
    longer = (batch, length + 1, *width)
    x = graph.add("Concat", [x, spare], longer, x.dtype, axis=1)
    found = indices.shape[1]
    example = _examples(graph, batch, found)
    places = graph.cast(graph.reshape(indices, (batch, found, 1)), INT64)
    both = graph.add("Concat", [example, places], (batch, found, 2), INT64, axis=2)
    x = graph.add("ScatterND", [x, both, rows], longer, x.dtype)
    bounds = [graph.list_of([n]) for n in (0, length, 1)]
    return [graph.add("Slice", [x, *bounds], out.shape, out.dtype)]


def _examples(graph: Graph, batch, found: int) -> Value:
    """The number of each example, int64 [B, found, 1]."""
    ones = graph.full(graph.constant(np.ones((1, 1, 1), np.int64), (batch, found, 1)))
    axis = graph.constant(np.int64(0))
    return graph.add("CumSum", [ones, axis], ones.shape, INT64, exclusive=1)
