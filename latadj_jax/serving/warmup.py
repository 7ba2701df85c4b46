"""What an engine does before it serves: compiles its programs, and measures what each takes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from latadj_jax.errors import NoRoomError
from latadj_jax.serving.latencies import (
    Latency,
    load_latencies,
    machine_of,
    measure_latencies,
    save_latencies,
)
from latadj_jax.serving.live_latencies import LiveLatencies
from latadj_jax.serving.programs import Shape
from latadj_jax.serving.runtime import Runtime

log = logging.getLogger(__name__)


class Warmup:
    """Of one engine's programs; times that are on file for this machine are not measured again."""

    def __init__(
        self,
        programs: Runtime,
        shapes: Sequence[Shape],
        live: LiveLatencies,
        latency_file: str | Path | None,
    ):
        """
        Args:
          live: is told of each program as soon as it can be used.
        """
        self._programs, self._shapes, self._live = programs, shapes, live
        self._file = Path(latency_file) if latency_file else None

    def all_at_once(self, repeats: int, progress: bool) -> dict[Shape, Latency]:
        """The times of every program, which can be used then."""
        self._programs.compile(self._shapes, progress)
        table = self._on_file()
        if not set(self._shapes) <= set(table):
            table |= measure_latencies(self._programs, repeats)
            self._keep(table)
        for shape in self._shapes:
            self._live.add(shape, table[shape])
        return {shape: table[shape] for shape in self._shapes}

    def in_turn(self, repeats: int, on_program: Callable[[int, int], None]) -> dict[Shape, Latency]:
        """The same, one after the other; each can be used at once, while others are compiled.

        Every alpha at the largest bucket comes first, which serves texts of any length; then what
        makes short texts, and many texts, faster. Where there is no room for all, it ends there;
        without room for that of each alpha it raises NoRoomError.

        Args:
          on_program: is told after each how many there are, and of how many.
        """
        longest = max(shape.length for shape in self._shapes)
        shapes = sorted(self._shapes, key=lambda s: (s.batch_size, s.length != longest))
        table, measured = self._on_file(), {}
        for number, shape in enumerate(shapes, 1):
            try:
                self._programs.compile([shape])
            except NoRoomError as error:
                if number <= len({shape.alpha for shape in shapes}):  # it cannot serve them all
                    raise
                log.warning("It serves with what is compiled: %s", error)
                on_program(number - 1, number - 1)
                break
            measured[shape] = table.get(shape) or self._measured(shape, repeats)
            self._live.add(shape, measured[shape])
            on_program(number, len(shapes))
        if not set(shapes) <= set(table):
            self._keep(measured)
        return measured

    def _measured(self, shape: Shape, repeats: int) -> Latency:
        """As it would be without what runs beside it."""
        latency = measure_latencies(self._programs, repeats, [shape])[shape]
        slower = self._live.machine(time.perf_counter())
        return Latency(latency.median_ms / slower, latency.p95_ms / slower)

    def _on_file(self) -> dict[Shape, Latency]:
        """The times of this machine that were kept."""
        return load_latencies(self._file, machine_of(self._programs)) if self._file else {}

    def _keep(self, table: Mapping[Shape, Latency]) -> None:
        if self._file:
            try:
                save_latencies(self._file, machine_of(self._programs), dict(table))
            except OSError as error:  # serving needs no file
                log.warning("The latencies were measured but not kept: %s", error)
