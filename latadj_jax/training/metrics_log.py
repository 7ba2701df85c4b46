"""The log of a training run: metrics.jsonl, and TensorBoard events."""

import contextlib
import json
from pathlib import Path

from latadj_jax.atomic_file import write_whole
from latadj_jax.devices.processes import first_alone
from latadj_jax.extras import require


class MetricsLog:
    """metrics.jsonl: a JSON object a line; TensorBoard events too when asked for.

    Only the first of several processes writes. Going on from a checkpoint, what was written of the
    steps after it is dropped: they are done again.
    """

    def __init__(self, workdir: Path, start_step: int, tensorboard: bool = False):
        self._file, self._tensorboard = None, None
        first_alone(lambda: self._open(workdir, start_step, tensorboard))

    def _open(self, workdir: Path, start_step: int, tensorboard: bool) -> None:
        file = workdir / "metrics.jsonl"
        lines = []
        if start_step and file.exists():
            for line in file.read_text().split("\n"):
                with contextlib.suppress(ValueError):  # a line cut short by the interruption
                    if line and json.loads(line)["step"] <= start_step:
                        lines.append(line + "\n")
        write_whole(file, "".join(lines))
        self._file = file.open("a")
        self._tensorboard = _tensorboard(workdir, start_step) if tensorboard else None

    def write(self, step: int, **values: float) -> None:
        first_alone(lambda: self._write(step, values))

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        if self._file is None:
            return
        self._file.close()
        if self._tensorboard:
            self._tensorboard.close()


def require_tensorboard() -> None:
    """Raises MissingPackageError where tensorboardX is not installed."""
    require("tensorboard", "tensorboardX")


def _tensorboard(workdir: Path, start_step: int):
    from tensorboardX import SummaryWriter  # an extra

    return SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)
