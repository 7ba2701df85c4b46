"""One runtime in a process of its own: builds variants of an encoder, and times them when told.

Reads JSON lines from standard input and answers each with one on standard output:

    {"build": [variant, ...], "shape": {...}}   ->  {"built": {variant: seconds}}
    {"time": variant, "seconds": s}             ->  {"ms": [...]}
    {"machine": [dtype, ...]}                   ->  what `machine` found

What a runtime's own code prints goes to standard error. A runtime is a function from a variant and
a shape to a function without arguments, which returns when its result is there.
"""

import json
import os
import sys
import time
from collections.abc import Callable


def serve(build: Callable[[dict, dict], Callable[[], object]], machine=None) -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like
    runs: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "build" in asked:
            runs.clear()
            answer = {"built": {}}
            for variant in asked["build"]:
                start = time.perf_counter()
                runs[variant["name"]] = run = build(variant, asked["shape"])
                run()
                answer["built"][variant["name"]] = time.perf_counter() - start
        elif "machine" in asked:
            answer = machine(asked["machine"])
        else:
            answer = {"ms": time_run(runs[asked["time"]], asked["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


def time_run(run: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of calls, after one that brings weights and threads back; at least one."""
    run()
    times_ms: list[float] = []
    while not times_ms or sum(times_ms) < 1e3 * seconds:
        start = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - start))
    return times_ms
