"""Elimination with counts that are known only at run time: no faster, but one program for all.

To look at many alphas or profiles at once. What is removed and what comes out is as with a plan of
the same counts, since results do not depend on the size of buffers; here none ever shrinks. (Only
"random" draws for each slot of a buffer, and so keeps others.)
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latadj_jax.devices.mesh import with_auto_axes
from latadj_jax.elimination.cut import Cut
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.strategies import find
from latadj_jax.families.output import Output
from latadj_jax.model.inputs import cast_inputs, check_inputs
from latadj_jax.model.model import Model, checked_params, resolve_plan


@struct.dataclass
class _Counts:
    """Stands where a `Plan` stands: all layers that run cut, to these counts, in a full buffer."""

    counts_by_layer: jax.Array
    length: int = struct.field(pytree_node=False)
    strategy: str = struct.field(pytree_node=False)
    removed_as: str = struct.field(pytree_node=False)
    floor: int = struct.field(pytree_node=False)
    runs: tuple[bool, ...] = struct.field(pytree_node=False)
    is_dense: bool = struct.field(pytree_node=False, default=False)

    def cuts(self, valid_B: jax.Array) -> tuple[Cut | None, ...]:
        num_layers, strategy = self.counts_by_layer.shape[1], find(self.strategy)
        counts_BN = jnp.minimum(self.counts_by_layer, valid_B[:, None])
        return tuple(
            Cut(counts_BN[:, n], self.length, strategy.at(n, num_layers), self.length)
            if runs else None
            for n, runs in enumerate(self.runs)
        )  # fmt: skip

    @property
    def merges(self) -> bool:
        return find(self.strategy).merges

    @property
    def reads_head(self) -> bool:
        return find(self.strategy).reads_head

    @property
    def joins(self) -> bool:
        return self.merges and self.removed_as == "joined"


def simulate(
    model: Model,
    params,
    batch: Mapping[str, jax.Array],
    counts: Plan | np.ndarray,
    strategy: str | None = None,
    skipped: Sequence[int] = (),
) -> Output:
    """What `apply` gives, scores included, compiled once for each batch shape and strategy.

    Args:
      batch: as `apply` takes it.
      counts: a plan for the batch's length; or how many word-vectors each layer leaves, int32
        [B, number of layers] (or [1, ...], of all examples): never rising along the layers, and
        at least the protected positions.
      strategy: what is kept; the plan's, or the model's.
      skipped: layers (from 1) that do not run, where counts are no plan, which names its own.

    Raises:
      ValueError: input that cannot work.
    """
    ranges = model.input_ranges
    check_inputs(batch, ranges, model.config.max_positions)
    rows, length = np.shape(batch["input_ids"])
    if model.head_inputs:
        raise ValueError(f"of a {model.task} model the encoder is simulated: pass model.encoder.")
    removed_as, floor = model.removed_as, model.num_protected
    valid_BT = np.asarray(batch.get("attention_mask", np.ones((rows, length), bool)))
    valid_B = (valid_BT != 0).sum(axis=1).astype(np.int32)
    if isinstance(counts, Plan):
        removed_as, floor, skipped = counts.removed_as, counts.floor, counts.skipped
        counts = resolve_plan(model, None, counts, counts.count, length)
        strategy = strategy or counts.strategy
        counts = counts.example_counts(valid_B)
    num_layers = model.config.num_layers
    runs = tuple(layer not in skipped for layer in range(1, num_layers + 1))
    shape = (rows, num_layers)
    counts_by_layer = np.broadcast_to(np.asarray(counts, np.int32), shape)
    rising = (np.diff(counts_by_layer, axis=1) > 0).any()
    least_B1 = np.minimum(max(1, floor), valid_B)[:, None]
    if rising or (counts_by_layer < least_B1).any():
        raise ValueError("counts must not rise along the layers, nor fall under what is protected.")
    strategy = strategy or model.strategy
    model.check_strategy(strategy)
    with checked_params(model, params):
        inputs = cast_inputs(batch, ranges)
        how = length, strategy, removed_as, max(1, floor), runs
        return _forward(model.module, how, params, inputs, counts_by_layer)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(module, how, params, inputs, counts_by_layer):
    def run(params, inputs, counts_by_layer):
        rngs = {"eliminate": jax.random.key(0)}
        plan = _Counts(counts_by_layer, *how)
        return module.apply({"params": params}, inputs, plan, rngs=rngs)

    return with_auto_axes(run, inputs["input_ids"], params, inputs, counts_by_layer)
