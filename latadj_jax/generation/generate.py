"""Text that follows a prompt: a pruned prompt, and a dense continuation on its smaller caches."""

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latadj_jax.checks import check_integer
from latadj_jax.devices.mesh import with_auto_axes
from latadj_jax.elimination.plan import Plan
from latadj_jax.generation.beam import BeamSearch, search
from latadj_jax.generation.continuation import check_positions, check_prompt
from latadj_jax.generation.options import GenerationOptions, options_of, spelled_out
from latadj_jax.generation.sampling import Draw, next_token
from latadj_jax.model.buckets import bucket_of, default_buckets, sizes_of
from latadj_jax.model.inputs import cast_inputs, is_concrete
from latadj_jax.model.model import Model, checked_params, resolve_plan


def generate(
    model: Model,
    params,
    batch: Mapping[str, jax.Array],
    alpha: float | None = None,
    max_new_tokens: int = 64,
    **options: Any,
) -> jax.Array:
    """Writes new tokens after each prompt, in one compiled loop over static caches.

    The prompt is read with elimination, the new tokens densely. Layer l's cache has room for the
    N_{l-1} word-vectors of the prompt that entered it, and for the new tokens. Prompts and new
    tokens are padded to buckets (16, 24, 32, 48, ...), so there is one compilation per pair of
    buckets, batch size and alpha, whatever the lengths, stop tokens and temperature.

    Args:
      batch: prompts: `input_ids` [B, T], optionally `attention_mask` [B, T], padded on either side.
      alpha: speedup coefficient for the prompt; None is dense.
      max_new_tokens: number of tokens to return.
      **options: see `GenerationOptions`.

    Returns:
      int32 [B, max_new_tokens], without the prompt; a stop token is the last of its row.

    Raises:
      ValueError: input that cannot work, before any compilation.
    """
    asked = options_of(generate, options)
    start = _prepare(model, batch, alpha, max_new_tokens, asked)
    limit = np.int32(max_new_tokens)
    with checked_params(model, params):
        if asked.num_beams > 1:
            tokens_BS = search(model.module, asked.beams, params, start, limit)
        else:
            tokens_BS = _generate(model.module, params, start, limit)
    if _is_here(tokens_BS):  # sliced on the host: nothing to compile for each number
        return jax.device_put(np.asarray(tokens_BS)[:, :max_new_tokens])
    return tokens_BS[:, :max_new_tokens]


def stream(
    model: Model,
    params,
    batch: Mapping[str, jax.Array],
    alpha: float | None = None,
    max_new_tokens: int = 64,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Yields the tokens of `generate` as they come, int32 [B] for each step, until every row ends.

    Bad input is refused at the call, before the first token is asked for.

    Args:
      batch: as for `generate`.
      alpha: as for `generate`.
      max_new_tokens: as for `generate`.
      **options: as for `generate`, without beams: their tokens are known only at the end.
    """
    if options.pop("num_beams", 1) != 1:
        raise ValueError("a beam search cannot be streamed: its tokens are known at the end only.")
    start = _prepare(model, batch, alpha, max_new_tokens, options_of(stream, options))

    def tokens() -> Iterator[np.ndarray]:
        with checked_params(model, params):
            state = _first(model.module, params, start)
        for n in range(max_new_tokens):
            yield np.asarray(state.token_B)
            if n + 1 == max_new_tokens or bool(state.done_B.all()):
                return
            state = _next(model.module, start.plan, params, start.draw, start.ends, state)

    return tokens()


generate.__signature__ = spelled_out(generate)  # type: ignore[attr-defined]
stream.__signature__ = spelled_out(  # type: ignore[attr-defined]
    stream, [f.name for f in dataclasses.fields(BeamSearch)]
)


@struct.dataclass
class Ends:
    """What ends a row, and what fills it afterwards."""

    stop_tokens: jax.Array  # int32, at least one: -1 where nothing stops
    pad_token: jax.Array

    def reached(self, token_B: jax.Array) -> jax.Array:
        return (token_B[:, None] == self.stop_tokens[None, :]).any(axis=1)


@struct.dataclass
class State:
    """Between two tokens of a generation."""

    step: jax.Array  # how many tokens were chosen after the first
    token_B: jax.Array  # the newest one
    done_B: jax.Array
    memory: tuple  # what the family's module goes on from


@struct.dataclass
class Start:
    """A checked and padded call."""

    inputs: dict
    draw: Draw
    ends: Ends
    rngs: dict
    plan: Plan = struct.field(pytree_node=False)
    room: int = struct.field(pytree_node=False)  # slots for new tokens


def _begin(module, start: Start) -> State:
    """Reads the prompt and chooses the first token."""
    logits_BV, memory = module.begin(start.inputs, start.plan, start.room)
    step = jnp.zeros((), jnp.int32)
    token_B = next_token(logits_BV, start.draw, step)
    return State(step, token_B, start.ends.reached(token_B), memory)


def _go_on(module, plan: Plan, draw: Draw, ends: Ends, state: State) -> State:
    """Reads the newest token and chooses the one after it."""
    logits_BV, memory = module.go_on(plan, state.token_B, state.step, state.memory)
    step = state.step + 1
    token_B = jnp.where(state.done_B, ends.pad_token, next_token(logits_BV, draw, step))
    return State(step, token_B, state.done_B | ends.reached(token_B), memory)


def _prepare(model, batch, alpha, max_new_tokens, o: GenerationOptions) -> Start:
    """Checks a call, and pads its prompts on the right to a bucket."""
    draw = Draw.of(o.sampling, o.key)
    check_integer("max_new_tokens", max_new_tokens, 1)
    plan, rngs = check_prompt(model, batch, alpha, o.plan, o.count, o.rngs)
    check_positions(model, batch, max_new_tokens - 1, "new tokens (the last is never read)")
    ends = _ends(model, o.stop_tokens, o.pad_token)
    inputs = cast_inputs(batch, model.input_ranges)
    every = default_buckets(model.config.max_positions)
    if o.plan is None and o.count == "valid":  # else counts are those of the length that was given
        own = () if o.buckets is None else sizes_of("buckets", o.buckets)
        length = bucket_of(plan.length, own or every)
        wide = ((0, 0), (0, length - plan.length))
        inputs = {name: _pad(array, wide) for name, array in inputs.items()}
        plan = resolve_plan(model, alpha, None, o.count, length)
    return Start(inputs, draw, ends, rngs, plan, bucket_of(max_new_tokens, every))


def _pad(array, wide):
    """On the host where it can be: that compiles nothing for each length."""
    return np.pad(np.asarray(array), wide) if _is_here(array) else jnp.pad(array, wide)


def _is_here(array) -> bool:
    """Whether it has values, and they are not spread over devices, where they are to stay."""
    if not is_concrete(array):
        return False
    return not isinstance(array, jax.Array) or len(array.devices()) == 1


def _ends(model: Model, stop_tokens: Sequence[int] | None, pad_token: int | None) -> Ends:
    vocab_size = model.config.vocab_size
    own = model.config.eos_tokens
    if stop_tokens is not None and not np.iterable(stop_tokens):
        raise ValueError(f"stop_tokens must be a list of ids; it is {stop_tokens!r}.")
    stops = own if stop_tokens is None else [_as_int(token) for token in stop_tokens]
    pad = _as_int(pad_token)
    if pad is None:
        pad = [*model.config.pad_tokens, *stops, *own, 0][0]
    for name, token in (*(("stop_tokens", stop) for stop in stops), ("pad_token", pad)):
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise ValueError(
                f"{name} holds {token!r}, which is outside of the vocabulary: 0..{vocab_size - 1}."
            )
    # A round number of them: another list of stop tokens compiles nothing.
    stops = [*stops, *[-1] * (-len(stops) % 8 or 8 * (not stops))]
    return Ends(jnp.asarray(stops, jnp.int32), jnp.int32(pad))


def _as_int(token):
    """A Python integer of any that stands for one, of JAX's too; what is none as it is."""
    try:
        return operator.index(token)
    except TypeError:
        return token


@functools.partial(jax.jit, static_argnums=0)
def _generate(module, params, start: Start, max_new_tokens):
    run, rows = functools.partial(_loop, module), start.inputs["input_ids"]
    return with_auto_axes(run, rows, params, start, max_new_tokens)


def _loop(module, params, start: Start, max_new_tokens) -> jax.Array:
    variables, draw, ends = {"params": params}, start.draw, start.ends
    state = module.apply(variables, start, method=_begin, rngs=start.rngs)
    tokens_BS = jnp.full((state.token_B.shape[0], start.room), ends.pad_token, jnp.int32)
    tokens_BS = tokens_BS.at[:, 0].set(state.token_B)

    def unfinished(carry):
        state, _ = carry
        return (state.step + 1 < max_new_tokens) & ~state.done_B.all()

    def body(carry):
        state, tokens_BS = carry
        state = module.apply(variables, start.plan, draw, ends, state, method=_go_on)
        return state, tokens_BS.at[:, state.step].set(state.token_B)

    _, tokens_BS = jax.lax.while_loop(unfinished, body, (state, tokens_BS))
    return tokens_BS


@functools.partial(jax.jit, static_argnums=0)
def _first(module, params, start: Start):
    def run(params, start):
        return module.apply({"params": params}, start, method=_begin, rngs=start.rngs)

    return with_auto_axes(run, start.inputs["input_ids"], params, start)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
def _next(module, plan, params, draw, ends, state):
    def run(params, draw, ends, state):
        return module.apply({"params": params}, plan, draw, ends, state, method=_go_on)

    return with_auto_axes(run, state.token_B, params, draw, ends, state)
