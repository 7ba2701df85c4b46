"""What each compiled program takes on this very machine: measured once, saved, used again."""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from latadj_jax.atomic_file import write_whole
from latadj_jax.serving.programs import Shape
from latadj_jax.serving.runtime import Runtime
from latadj_jax.timing import interleaved_ms


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one program, host to host: the median, and what 95 % of calls stay under
    (of fewer than 20 calls, the longest)."""

    median_ms: float
    p95_ms: float


def measure_latencies(
    programs: Runtime, repeats: int, shapes: Sequence[Shape] = ()
) -> dict[Shape, Latency]:
    """Of `shapes`, by default of every program, in turns, with random tokens that fill it.

    One that takes long runs less often than `repeats`: until a second is gone, or five times.
    """
    rng = np.random.default_rng(0)
    vocab = programs.model.config.vocab_size

    def filled(shape: Shape):
        ids = rng.integers(0, vocab, shape.length).astype(np.int32)
        example = {key: ids if key == "input_ids" else np.zeros_like(ids) for key in programs.keys}
        return lambda: programs.run(shape, [example] * shape.batch_size)

    runs = {shape: filled(shape) for shape in shapes or programs.shapes}
    times = interleaved_ms(runs, repeats, enough_ms=1000)
    return {
        shape: Latency(
            float(np.median(ms)), float(np.percentile(ms, 95) if len(ms) >= 20 else max(ms))
        )
        for shape, ms in times.items()
    }


def machine_of(programs: Runtime) -> dict[str, str]:
    """What the times depend on: a table of another machine, jax or model is not used."""
    model = programs.model
    about = repr((model.config, model.profile, model.strategy, model.dtype, programs.keys))
    return {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "host": f"{platform.node()} {platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "programs": programs.kind,
        "model": hashlib.sha256(about.encode()).hexdigest()[:16],
    }


def save_latencies(file: Path, machine: dict[str, str], table: dict[Shape, Latency]) -> None:
    """Writes the whole file or, where that fails, none of it."""
    rows = [dataclasses.asdict(shape) | dataclasses.asdict(ms) for shape, ms in table.items()]
    write_whole(file, json.dumps({"machine": machine, "programs": rows}, indent=1) + "\n")


def load_latencies(file: Path, machine: dict[str, str]) -> dict[Shape, Latency]:
    """The table of `file`; empty if there is none, or one of another machine or model.

    Raises:
      ValueError: a file that is no such table.
    """
    if not file.exists():
        return {}
    try:
        values = json.loads(file.read_text())
        rows = [
            (Shape(row["length"], row["batch_size"], row["alpha"]),
             Latency(float(row["median_ms"]), float(row["p95_ms"])))
            for row in values["programs"]
        ]  # fmt: skip
        return dict(rows) if values["machine"] == machine else {}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{file} is no table of latencies ({error!r}); delete it.") from None
