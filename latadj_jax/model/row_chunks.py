"""A batch computed some rows at a time, where that is faster: on a CPU.

Activations of some hundred tokens stay in its caches; those of a large batch go to memory and back
between any two operations. And one program does not keep all cores busy: parts that are computed
at the same time do. docs/performance.md has the times.
"""

import os
from collections.abc import Callable, Mapping

import jax

TOKENS = 640  # of a part, at least, as it enters; fewer are left for the later layers
BESIDE = 128  # of a part that is computed beside others, at least, as the mean of its layers


def rows_at_once(batch_size: int, length: int) -> int:
    """The least divisor of the batch size whose rows have `TOKENS` tokens; else all."""
    return _least_divisor(batch_size, TOKENS / length)


def rows_beside(batch_size: int, length: int, left: float, cores: int) -> int:
    """The rows of a part, where parts are computed on all cores at once.

    As few as give each core a part, but not less than `BESIDE` tokens; at most `rows_at_once`.

    Args:
      left: tokens of a row in a layer, on the average: with too few of them the weights, which each
        part reads, are what takes the time.
    """
    enough = max(batch_size / cores, BESIDE / left)
    return min(rows_at_once(batch_size, length), _least_divisor(batch_size, enough))


def _least_divisor(number: int, least: float) -> int:
    """Of the number, not below `least`; the number itself if there is none."""
    return next((n for n in range(1, number) if number % n == 0 and n >= least), number)


def cores() -> int:
    """Those of a CPU that is the process's only device; 0 elsewhere: there parts gain nothing."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(run: Callable, inputs: Mapping[str, jax.Array]):
    """`run(inputs)`, a tree of arrays [B, ...] of which each row depends on its own row alone.

    On a process's only device, a CPU, in parts one after another; elsewhere at once, as where the
    batch size is not known yet.
    """
    batch_size, length = inputs["input_ids"].shape
    if not cores() or not isinstance(batch_size, int):
        return run(inputs)
    rows = rows_at_once(batch_size, length)
    if rows == batch_size:
        return run(inputs)
    parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), dict(inputs))
    return jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), jax.lax.map(run, parts))
