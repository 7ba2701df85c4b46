"""Logits of what follows a pruned prompt, and the checks that prompts get."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.devices.mesh import with_auto_axes
from latadj_jax.elimination.plan import Plan
from latadj_jax.model.inputs import cast_inputs, check_inputs, is_concrete, shape_of
from latadj_jax.model.model import Model, check_model, checked_params, resolve_plan, resolve_rngs
from latadj_jax.tasks.language_model import LANGUAGE_MODEL
from latadj_jax.tasks.registry import TASKS, tasks_of


def continuation_logits(
    model: Model,
    params,
    prompt: Mapping[str, jax.Array],
    continuation: jax.Array,
    alpha: float | None = None,
    *,
    plan: Plan | None = None,
    count: str = "valid",
    train: bool = False,
    rngs: Mapping[str, jax.Array] | None = None,
) -> jax.Array:
    """Computes the logits of a continuation after a pruned prompt; likelihoods are made of them.

    The prompt is read with elimination, ranked by its own queries only. The continuation is read
    densely, so no logit depends on a later token.

    Args:
      prompt: `input_ids` [B, T] and optionally `attention_mask` [B, T], padded on either side.
      continuation: int [B, S], the tokens that follow each prompt. What follows a row's own end
        (its padding) changes nothing before it.
      alpha: speedup coefficient for the prompt; None is dense.
      plan: a plan for the prompt, in place of alpha and count, see `make_plan`.
      count: "valid" or "padded": whose length the prompt's counts follow, see `Plan`.
      train: whether dropout is on; needs `rngs={"dropout": key}`.
      rngs: keys; strategy "random" needs "eliminate".

    Returns:
      float32 [B, S + 1, V]: after the last token of the prompt, and after each of the continuation.

    Raises:
      ValueError: input that cannot work, before any compilation.
    """
    plan, rngs = check_prompt(model, prompt, alpha, plan, count, rngs, train)
    shape = shape_of("continuation", continuation)
    if len(shape) != 2 or shape[0] != np.shape(prompt["input_ids"])[0]:
        raise ValueError(
            f"continuation must be [B, S] with the B of the prompt; it is {list(shape)}."
        )
    check_positions(model, prompt, shape[1], "tokens of the continuation")
    if shape[1]:  # else there is nothing to look at
        try:
            ranges, longest = model.input_ranges, model.config.max_positions
            check_inputs({"input_ids": continuation}, ranges, longest)
        except ValueError as error:
            raise ValueError(str(error).replace("input_ids", "continuation")) from None
    inputs = cast_inputs(prompt, model.input_ranges)
    ids_BS = jnp.asarray(continuation, jnp.int32)
    with checked_params(model, params):
        return _continuation_logits(model.module, plan, train, params, inputs, ids_BS, rngs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continuation_logits(module, plan, train, params, inputs, ids_BS, rngs):
    def run(params, inputs, ids_BS, rngs):
        variables, method = {"params": params}, type(module).continuation
        return module.apply(variables, inputs, plan, ids_BS, train, method=method, rngs=rngs)

    return with_auto_axes(run, inputs["input_ids"], params, inputs, ids_BS, rngs)


def check_prompt(model, prompt, alpha, plan, count, rngs, train=False) -> tuple[Plan, dict]:
    """The plan and keys of a call on a language model; ValueError for what cannot work."""
    check_model(model)
    if not model.record.writes:
        writing = [name for name in tasks_of(model.family) if TASKS[name].writes]
        task = [*writing, LANGUAGE_MODEL.name][0]
        raise ValueError(
            f"this needs a model of task {task!r}, and this one's is {model.task!r}: load it with "
            f"from_pretrained(source, task={task!r})."
        )
    model.check_start()
    if made := [name for name in model.head_inputs if name in prompt]:
        raise ValueError(f"a prompt has no {made[0]!r}: what is written begins anew.")
    check_inputs(prompt, model.input_ranges, model.config.max_positions)
    plan = resolve_plan(model, alpha, plan, count, np.shape(prompt["input_ids"])[1])
    return plan, resolve_rngs(plan, train, rngs)


def check_positions(model: Model, prompt, more: int, what: str) -> None:
    """Raises ValueError where the longest prompt and `more` tokens pass the last position.

    Of a traced mask no length is known; a token past the last position then gets the last.
    """
    length = np.shape(prompt["input_ids"])[1]
    mask = prompt.get("attention_mask")
    if mask is not None and not is_concrete(mask):
        length = 1
    elif mask is not None:
        valid_BT = np.asarray(mask) != 0
        length = int((length - valid_BT[:, ::-1].argmax(axis=1) - valid_BT.argmax(axis=1)).max())
    together = f"a prompt of {length} tokens and {more} {what} are too many"
    check_fits(length + more, model.config.max_positions, together, "shorten one of them")
