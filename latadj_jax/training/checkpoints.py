"""Checkpoints of a training run, by orbax: whole, checked, the newest ones and the best."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from latadj_jax.devices.mesh import fetch
from latadj_jax.devices.processes import first_alone, together

log = logging.getLogger(__name__)
LOSS = "evaluation_loss"
PATIENCE = 600  # seconds that processes wait for what the others write; orbax's default


class Checkpoints:
    """The checkpoints of one run, by step; writing is asynchronous and atomic.

    Each holds the state, a checksum of it and `pending`: losses that are not in the log yet. All
    processes write their own parts.

    Args:
      keep: how many of the newest stay.
      watched: whether they come with evaluation losses; the one of the least stays too.
    """

    def __init__(self, folder: Path, keep: int = 2, watched: bool = False):
        self.folder, self._keep, self._watched = folder.absolute(), keep, watched
        first_alone(self._forget_damaged_losses)
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        kept = [LatestN(self._keep)]
        if self._watched:
            kept.append(BestN(get_metric_fn=_quality, n=1, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            create=True,
            async_options=ocp.AsyncOptions(timeout_secs=PATIENCE),
            preservation_policy=AnyPreservationPolicy(kept),
            best_fn=_quality if self._watched else None,
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def _forget_damaged_losses(self) -> None:
        """The manager reads those of all checkpoints, and does not open if it cannot."""
        for file in self.folder.glob("[0-9]*/metrics/metrics"):
            try:
                float(json.loads(file.read_text())[LOSS])
            except (ValueError, KeyError, TypeError):
                log.warning("%s is damaged: its checkpoint does not count among the best.", file)
                file.unlink()

    @property
    def newest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """Step of the one of least evaluation loss; None where none has one."""
        self.wait()  # what is being written counts too
        losses = {}
        for step in self._manager.all_steps():
            metrics = self._manager.metrics(step)
            if metrics and np.isfinite(metrics.get(LOSS, np.nan)):
                losses[step] = metrics[LOSS]
        return min(losses, key=losses.get, default=None)

    def save(self, step: int, state, pending: Sequence[float] = (), loss=None) -> None:
        """Begins to write; an error of the one before (a full disk) is raised here."""
        about = ocp.args.JsonSave(
            {"checksum": _number(checksum(state)), "pending": [float(x) for x in pending]}
        )
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), about=about)
        metrics = None if loss is None else {LOSS: float(loss)}
        self._manager.save(step, args=args, metrics=metrics, force=True)

    def restore(self, step: int, like):
        """(state, pending) as saved at `step`, the state in the structure and sharding of `like`.

        Args:
          like: a state, or better one of shapes alone: `abstract_state`.

        Raises:
          ValueError: a checkpoint that is not what was saved; in all processes, if one meets it.
        """
        self.wait()  # it may be the one that is being written
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)

        def read():  # by the handlers: the manager's restore waits for the other processes
            folder = self.folder / str(step)
            state = ocp.StandardCheckpointHandler().restore(
                folder / "state", args=ocp.args.StandardRestore(abstract)
            )
            about = ocp.JsonCheckpointHandler().restore(folder / "about")
            return state, int(about["checksum"]), [float(x) for x in about["pending"]]

        try:
            state, expected, pending = together(read)
        except Exception as error:  # tensorstore and orbax raise many kinds
            first_line = (str(error) or repr(error)).strip().split("\n")[0][:300]
            raise ValueError(f"checkpoint {step} cannot be read ({first_line})") from error
        if _number(checksum(state)) != expected:
            raise ValueError(f"checkpoint {step} holds other numbers than were saved")
        return state, pending

    def restore_newest(self, like) -> tuple[int, object, list[float]]:
        """(step, state, pending) of the newest checkpoint that is whole; (0, None, []) of none.

        Newer ones that are not are put aside as STEP.damaged, with a warning.

        Raises:
          ValueError: there are checkpoints, and none can be used; all are left as they are.
        """
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, pending = self.restore(step, like)
            except ValueError as error:
                log.warning("%s; trying the one before.", error)
                damaged.append(step)
            else:
                self._put_aside(damaged)
                return step, state, pending
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.folder} can be used (steps {damaged}); to start "
                f"anew, move that folder away."
            )
        return 0, None, []

    def _put_aside(self, steps: list[int]) -> None:
        if not steps:
            return
        self._manager.close()

        def rename():
            for step in steps:
                (self.folder / str(step)).rename(_unused(self.folder / f"{step}.damaged"))

        first_alone(rename)
        self._manager = self._open()

    def wait(self) -> None:
        """Returns when what was begun is written; raises what kept it from being."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None or jax.process_count() == 1:
            self.close()
        # Else another process may never come to where closing would wait for it.

    def close(self) -> None:
        """Waits until everything is written."""
        try:
            self.wait()
        finally:
            self._manager.close()


@jax.jit
def checksum(state) -> jax.Array:
    """A uint32 of all the bits of `state`, however it is spread over devices."""

    def of(leaf: jax.Array) -> jax.Array:
        bits = leaf.astype(jnp.uint32)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            width = {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
            bits = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
        # Each word by a factor of its own, and each leaf: what changed places is noticed.
        odd = 2 * jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape) + jnp.uint32(1)
        return jnp.sum(bits * odd, dtype=jnp.uint32)

    sums = [of(leaf) * jnp.uint32(2 * n + 1) for n, leaf in enumerate(jax.tree.leaves(state))]
    return sum(sums, jnp.uint32(0))


def _number(x: jax.Array) -> int:
    return int(fetch(x))


def _quality(metrics) -> float:
    """What orbax keeps the greatest of: the least loss is the best."""
    return -metrics[LOSS]


def _unused(path: Path) -> Path:
    """`path`, or with a number behind it where that is taken."""
    taken = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, 100))]
    return next(p for p in taken if not p.exists())
