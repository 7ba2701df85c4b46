"""The forward pass: a model, its parameters and a batch."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from latadj_jax.devices.mesh import with_auto_axes
from latadj_jax.elimination.plan import Plan
from latadj_jax.families.output import Output
from latadj_jax.model.inputs import cast_inputs, check_inputs
from latadj_jax.model.model import (
    Model,
    check_model,
    checked_params,
    resolve_plan,
    resolve_rngs,
)
from latadj_jax.model.row_chunks import in_parts


def apply(
    model: Model,
    params,
    batch: Mapping[str, jax.Array],
    alpha: float | None = None,
    *,
    plan: Plan | None = None,
    count: str = "valid",
    restore: bool = False,
    train: bool = False,
    rngs: Mapping[str, jax.Array] | None = None,
    return_scores: bool = False,
) -> Output:
    """Runs the model, dense (`alpha=None`) or with elimination.

    Pure: works under jit, grad, vmap and sharding. Called outside of jit it compiles once per
    (batch shape, plan), and not again.

    Args:
      batch: `input_ids` [B, T], optionally `attention_mask` [B, T] (1 = token, 0 = padding, on
        either side), `token_type_ids` [B, T] and, for "seq2seq", `decoder_input_ids` [B, S].
      alpha: speedup coefficient, a Python number greater than 0; smaller is faster. None is dense,
        whatever alpha the model carries.
      plan: counts that were decided before, in place of alpha and count, see `make_plan`. A plan
        that names no strategy takes the model's.
      count: "valid": each example's counts follow its own valid length, so its output does not
        depend on padding or on the rest of the batch. "padded": they follow T, as in papers that
        pad every text to one length.
      restore: whether `hidden` and `positions` cover all T positions; a removed word-vector then
        has the hidden state that it had when it was removed.
      train: whether dropout is on; needs `rngs={"dropout": key}`.
      rngs: keys; strategy "random" needs "eliminate".
      return_scores: whether `out.scores` holds the Score Vector of each layer that runs,
        `out.entered` the positions they belong to, and `out.left` those that the last layer left.

    Raises:
      ValueError: input that cannot work, before any compilation.
    """
    check_model(model)
    ranges = model.input_ranges
    check_inputs(batch, ranges, model.config.max_positions)
    for name in model.head_inputs:
        if name not in batch:
            raise ValueError(
                f"batch has no {name!r}, which a {model.task} model reads beside input_ids; "
                f"generate and continuation_logits make them."
            )
    length = np.shape(batch["input_ids"])[1]
    plan = resolve_plan(model, alpha, plan, count, length)
    rngs = resolve_rngs(plan, train, rngs)
    inputs = cast_inputs(batch, ranges)
    with checked_params(model, params):
        return _forward(model.module, plan, restore, train, return_scores, params, inputs, rngs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _forward(module, plan, restore, train, return_scores, params, inputs, rngs):
    def run(params, inputs, rngs):
        def of_rows(inputs):
            out = module.apply({"params": params}, inputs, plan, restore, train, rngs=rngs)
            return out if return_scores else out.replace(scores=None, entered=None, left=None)

        return of_rows(inputs) if rngs else in_parts(of_rows, inputs)

    return with_auto_axes(run, inputs["input_ids"], params, inputs, rngs)
