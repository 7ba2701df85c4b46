"""Products of arrays as MatMul, which every runtime has a fast kernel for."""

import math

from latadj_jax.onnx_graph.graph import Graph, Value
from latadj_jax.onnx_graph.primitives import lowers


@lowers("dot_general")
def _dot_general(graph: Graph, params, outs, inputs):
    """[batch, I, S] x [batch, S, J], where S is what is summed over."""
    (sums_a, sums_b), (batch_a, batch_b) = params["dimension_numbers"]
    a, b = map(graph.full, inputs)
    free_a = [n for n in range(len(a.shape)) if n not in (*sums_a, *batch_a)]
    free_b = [n for n in range(len(b.shape)) if n not in (*sums_b, *batch_b)]
    if not free_b and free_a and sums_a[-1] < free_a[0]:
        # Of a vector b: b a, so that a, the larger one, is not transposed.
        left = _as_matrix(graph, b, batch_b, (), sums_b)
        right = _as_matrix(graph, a, batch_a, sums_a, free_a)
    else:
        left = _as_matrix(graph, a, batch_a, free_a, sums_a, keep=not batch_a)
        right = _as_matrix(graph, b, batch_b, sums_b, free_b)
    shape = (*left.shape[:-1], right.shape[-1])
    return [graph.reshape(graph.add("MatMul", [left, right], shape, outs[0].dtype), outs[0].shape)]


def _as_matrix(graph: Graph, x: Value, batch, rows, columns, keep: bool = False) -> Value:
    """[batch, rows, columns], each of the last two one axis; with `keep`, rows as they are."""
    x = graph.transpose(x, [*batch, *rows, *columns])
    sizes, n = x.shape, len(batch)
    first, last = sizes[n : n + len(rows)], sizes[n + len(rows) :]
    first = first if keep and first else (math.prod(first),)
    return graph.reshape(x, (*sizes[:n], *first, math.prod(last)))
