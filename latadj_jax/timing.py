"""Wall-clock time of alternatives, in turns; and counting compilations."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


def interleaved_ms(
    alternatives: Mapping[str, Callable[[], object]], repeats: int, enough_ms: float = math.inf
) -> dict[str, list[float]]:
    """Milliseconds of each alternative, `repeats` times, in turns.

    Taking turns spreads whatever else the machine does over all alternatives. Each runs once
    before, to compile, and is waited for until its arrays are ready. One that has run for
    `enough_ms` in all, and five times or more, runs no more.
    """
    for run in alternatives.values():
        jax.block_until_ready(run())
    times_ms: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(repeats):
        for name, run in alternatives.items():
            if turn >= 5 and sum(times_ms[name]) >= enough_ms:
                continue
            start = time.perf_counter()
            jax.block_until_ready(run())
            times_ms[name].append(1e3 * (time.perf_counter() - start))
    return times_ms


def median(times: list[float]) -> float:
    return float(np.median(times))


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Collects the compilations that XLA does inside the block, one entry each.

    >>> with count_compilations() as compilations:
    ...     latadj_jax.apply(model, params, batch, alpha=0.9)
    >>> len(compilations)
    """
    compilations: list[str] = []

    def listen(event: str, duration_s: float, **kwargs) -> None:
        if event == _COMPILE_EVENT:
            compilations.append(str(kwargs.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
