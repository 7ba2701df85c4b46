"""Named functions of the package, each as the operator that runtimes have for it."""

import numpy as np

from latadj_jax.layers.named import PREFIX
from latadj_jax.onnx_graph.graph import Graph, Value
from latadj_jax.onnx_graph.primitives import INT64, Like, elementwise

CALLS = {}  # by the name in a jaxpr; functions as lowerings are


def _replaces(function):
    CALLS[f"{PREFIX}{function.__name__.removeprefix('_')}"] = function
    return function


@_replaces
def _gelu(graph: Graph, params, outs, inputs):
    return [graph.add("Gelu", inputs, outs[0].shape, outs[0].dtype, inputs[0].stored)]


@_replaces
def _layer_norm(graph: Graph, params, outs, inputs):
    x, scale, bias, eps = inputs
    return [
        graph.add(
            "LayerNormalization", [graph.full(x), scale, bias], outs[0].shape, outs[0].dtype,
            axis=-1, epsilon=float(eps.const),
        )
    ]  # fmt: skip


@_replaces
def _exp_and_totals(graph: Graph, params, outs, inputs):
    """The softmax itself, whose rows sum to 1."""
    weights, totals = outs
    made = graph.add("Softmax", [graph.full(inputs[0])], weights.shape, weights.dtype, axis=-1)
    return [made, graph.constant(np.ones((1,) * len(totals.shape), np.float32), totals.shape)]


@_replaces
def _select(graph: Graph, params, outs, inputs):
    """The `size` best by TopK, which takes the earlier of equals, as `select` does."""
    ranking, valid, protected, count = inputs
    like = Like(ranking.shape, ranking.dtype)
    inf = graph.constant(np.float32(np.inf))
    if not protected.is_all(False):
        ranking = elementwise(graph, "Where", like, protected, inf, ranking)
    lowest = graph.constant(np.float32(-np.inf))
    ranking = elementwise(graph, "Where", like, valid, ranking, lowest)
    batch, size = outs[0].shape
    shape, length = (batch, size), ranking.shape[1]
    how_many = graph.list_of([size])
    _, best = graph.add_many(
        "TopK", [graph.full(ranking), how_many], [(shape, like.dtype, None), (shape, INT64, None)],
        axis=1,
    )  # fmt: skip
    places = graph.constant(np.arange(size, dtype=count.dtype)[None])
    count = graph.reshape(count, (batch, 1))
    is_kept = elementwise(graph, "Less", Like(shape, np.dtype(bool)), places, count)
    outside = graph.constant(np.int64(length))
    best = elementwise(graph, "Where", Like(shape, INT64), is_kept, best, outside)
    return [graph.cast(_ascending(graph, best, size), outs[0].dtype)]


@_replaces
def _indices_where(graph: Graph, params, outs, inputs):
    mask, size = inputs[0], outs[0].shape[1]
    length = mask.shape[1]
    slots = graph.constant(np.arange(length, dtype=np.int64)[None])
    outside = graph.constant(np.int64(length))
    every = elementwise(graph, "Where", Like(mask.shape, INT64), mask, slots, outside)
    return [graph.cast(_ascending(graph, graph.full(every), size), outs[0].dtype)]


def _ascending(graph: Graph, numbers: Value, size: int) -> Value:
    """The `size` least numbers of each row, int64."""
    if numbers.shape[1] == 1:
        return numbers
    shape = (numbers.shape[0], size)
    how_many = graph.list_of([size])
    values, _ = graph.add_many(
        "TopK", [numbers, how_many], [(shape, INT64, None)] * 2, axis=1, largest=0
    )
    return values
