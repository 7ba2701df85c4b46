"""A batch computed some rows at a time, where that is faster: on a CPU.

Activations of some hundred tokens stay in its caches; those of a large batch go to memory and back
between any two operations. docs/performance.md has the times.
"""

from collections.abc import Callable, Mapping

import jax

from latadj_jax.plan import Plan, expected_speedup

TOKENS = 640  # word-vectors of a part, at least, on average over the layers


def rows_at_once(batch_size: int, plan: Plan) -> int:
    """The least divisor of the batch size whose rows have `TOKENS` word-vectors; else all."""
    tokens = plan.length / expected_speedup(plan)
    fitting = (rows for rows in range(1, batch_size + 1) if batch_size % rows == 0)
    return next((rows for rows in fitting if rows * tokens >= TOKENS), batch_size)


def in_parts(run: Callable, inputs: Mapping[str, jax.Array], plan: Plan):
    """`run(inputs)`, a tree of arrays [B, ...] of which each row depends on its own row alone.

    On a process's only device, a CPU, in parts one after another; elsewhere at once, as where the
    batch size is not known yet.
    """
    batch_size = inputs["input_ids"].shape[0]
    only_a_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    if not only_a_cpu or not isinstance(batch_size, int):
        return run(inputs)
    rows = rows_at_once(batch_size, plan)
    if rows == batch_size:
        return run(inputs)
    parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), dict(inputs))
    return jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), jax.lax.map(run, parts))
