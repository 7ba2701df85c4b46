"""A batch computed some rows at a time, where that is faster: on a CPU.

Activations of some hundred tokens stay in its caches; those of a large batch go to memory and back
between any two operations. docs/performance.md has the times.
"""

from collections.abc import Callable, Mapping

import jax

TOKENS = 640  # of a part, at least, as it enters; fewer are left for the later layers


def rows_at_once(batch_size: int, length: int) -> int:
    """The least divisor of the batch size whose rows have `TOKENS` tokens; else all."""
    fitting = (rows for rows in range(1, batch_size + 1) if batch_size % rows == 0)
    return next((rows for rows in fitting if rows * length >= TOKENS), batch_size)


def in_parts(run: Callable, inputs: Mapping[str, jax.Array]):
    """`run(inputs)`, a tree of arrays [B, ...] of which each row depends on its own row alone.

    On a process's only device, a CPU, in parts one after another; elsewhere at once, as where the
    batch size is not known yet.
    """
    batch_size, length = inputs["input_ids"].shape
    only_a_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    if not only_a_cpu or not isinstance(batch_size, int):
        return run(inputs)
    rows = rows_at_once(batch_size, length)
    if rows == batch_size:
        return run(inputs)
    parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), dict(inputs))
    return jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), jax.lax.map(run, parts))
