"""Beam search: the sequences of tokens that are most likely as a whole, in one compiled loop.

Step by step as Hugging Face's `generate(num_beams=...)`, with its rules for when a row is done.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.checks import check_integer, is_number
from latadj_jax.devices.mesh import varying_alike, with_auto_axes

NOTHING = -1e9  # the score of a beam that is not there


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """How many sequences are followed, and what makes one final.

    Attributes:
      num_beams: W, sequences of each row that are followed at a time.
      length_penalty: p; a finished sequence of n tokens has the score log-probability / n^p, so
        more than 0 favours longer ones.
      early_stopping: True: a row is done once W sequences are finished. False: once the best that
        goes on, taken at its present length, is worse than the worst of them. "never": once it
        could not become better at any length.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False

    def __post_init__(self):
        check_integer("num_beams", self.num_beams, 1)
        p = self.length_penalty
        if not is_number(p) or not math.isfinite(p):
            raise ValueError(f"length_penalty must be a finite number; it is {p!r}.")
        if not (isinstance(self.early_stopping, bool) or self.early_stopping == "never"):
            raise ValueError(
                f"early_stopping must be True, False or 'never'; it is {self.early_stopping!r}."
            )


@struct.dataclass
class Beams:
    """Between two tokens, for B rows of W beams."""

    step: jax.Array  # how many tokens were chosen
    logits_BWV: jax.Array  # of the next token
    tokens_BWS: jax.Array
    scores_BW: jax.Array  # log-probability
    final_BWS: jax.Array  # the best finished sequences
    final_scores_BW: jax.Array
    is_final_BW: jax.Array  # False where no sequence is finished yet
    hopeful_B1: jax.Array  # whether the row's finished sequences may still be bettered
    memory: tuple  # of the model, B * W rows


@functools.partial(jax.jit, static_argnums=(0, 1))
def search(module, how: BeamSearch, params, start, max_new_tokens: jax.Array) -> jax.Array:
    """The best sequence of each row, int32 [B, start.room], padded after its end.

    Args:
      module: with `begin`, `go_on` and `reorder`.
      start: a checked and padded call, see `generate.Start`.
    """
    run, rows = functools.partial(_search, module, how), start.inputs["input_ids"]
    return with_auto_axes(run, rows, params, start, max_new_tokens)


def _search(module, how: BeamSearch, params, start, max_new_tokens: jax.Array) -> jax.Array:
    run = functools.partial(module.apply, {"params": params})
    beams = run(how, start, method=_first, rngs=start.rngs)

    def unfinished(beams: Beams):
        go_on = beams.hopeful_B1.any() & (beams.step < max_new_tokens)
        return go_on & ~beams.is_final_BW.all() if how.early_stopping is True else go_on

    def body(beams: Beams) -> Beams:
        return run(how, start, max_new_tokens, beams, method=_advance)

    return jax.lax.while_loop(unfinished, body, beams).final_BWS[:, 0]


def _first(module, how: BeamSearch, start) -> Beams:
    logits_BV, memory = module.begin(start.inputs, start.plan, start.room)
    width, (batch, vocab) = how.num_beams, logits_BV.shape
    nothing_BW = jnp.full((batch, width), NOTHING, jnp.float32)
    tokens_BWS = jnp.full((batch, width, start.room), start.ends.pad_token, jnp.int32)
    beams = Beams(
        step=jnp.zeros((), jnp.int32),
        logits_BWV=jnp.broadcast_to(logits_BV[:, None], (batch, width, vocab)),
        tokens_BWS=tokens_BWS,
        scores_BW=nothing_BW.at[:, 0].set(0.0),  # all beams are the same still: one may go on
        final_BWS=tokens_BWS,
        final_scores_BW=nothing_BW,
        is_final_BW=jnp.zeros((batch, width), bool),
        hopeful_B1=jnp.ones((batch, 1), bool),
        memory=jax.tree.map(lambda x: jnp.repeat(x, width, axis=0), memory),
    )
    # As the loop makes them, inside `jax.shard_map`.
    return jax.tree.map(lambda x: varying_alike(x, logits_BV)[0], beams)


def _advance(module, how: BeamSearch, start, max_new_tokens, beams: Beams) -> Beams:
    """Chooses a token for each beam, and reads it."""
    (batch, width, vocab), length = beams.logits_BWV.shape, beams.step + 1

    # The best continuations of all beams: enough that W of them have not ended.
    log_probs_BWV = jax.nn.log_softmax(beams.logits_BWV) + beams.scores_BW[..., None]
    enough = min((1 + len(start.ends.stop_tokens)) * width, width * vocab)
    scores_BC, best_BC = jax.lax.top_k(log_probs_BWV.reshape(batch, -1), enough)
    from_BC, token_BC = best_BC // vocab, (best_BC % vocab).astype(jnp.int32)
    tokens_BCS = _pick(beams.tokens_BWS, from_BC).at[:, :, beams.step].set(token_BC)
    ended_BC = start.ends.reached(token_BC.reshape(-1)).reshape(token_BC.shape)
    ended_BC |= length >= max_new_tokens

    # Those that go on.
    scores_BW, on_BW = jax.lax.top_k(jnp.where(ended_BC, NOTHING, scores_BC), width)
    tokens_BWS, from_BW = _pick(tokens_BCS, on_BW), _pick(from_BC, on_BW)

    # Those that end among the W best, merged with what had ended before.
    penalty = length.astype(jnp.float32) ** how.length_penalty
    ended_BC &= (jnp.arange(enough, dtype=jnp.int32) < width)[None, :]
    open_B1 = beams.hopeful_B1
    if how.early_stopping is True:
        open_B1 &= ~beams.is_final_BW.all(axis=1, keepdims=True)
    final_scores_BC = scores_BC / penalty + jnp.where(open_B1, 0.0, NOTHING)
    final_scores_BC += jnp.where(ended_BC, 0.0, NOTHING)
    merged_scores = jnp.concatenate([beams.final_scores_BW, final_scores_BC], axis=1)
    final_scores_BW, kept_BW = jax.lax.top_k(merged_scores, width)
    final_BWS = _pick(jnp.concatenate([beams.final_BWS, tokens_BCS], axis=1), kept_BW)
    is_final_BW = _pick(jnp.concatenate([beams.is_final_BW, ended_BC], axis=1), kept_BW)

    # Whether a row can still be bettered.
    longest = how.early_stopping == "never" and how.length_penalty > 0
    reach = max_new_tokens.astype(jnp.float32) ** how.length_penalty if longest else penalty
    worst_BW = jnp.where(is_final_BW, final_scores_BW.min(axis=1, keepdims=True), NOTHING)
    hopeful_B1 = (scores_BW[:, :1] / reach > worst_BW).any(axis=1, keepdims=True)

    # Read the new tokens.
    rows = (jnp.arange(batch, dtype=from_BW.dtype)[:, None] * width + from_BW).reshape(-1)
    memory = module.reorder(beams.memory, rows)
    newest = jax.lax.dynamic_index_in_dim(tokens_BWS, beams.step, axis=2, keepdims=False)
    logits, memory = module.go_on(start.plan, newest.reshape(-1), beams.step, memory)
    return Beams(
        length, logits.reshape(batch, width, vocab), tokens_BWS, scores_BW, final_BWS,
        final_scores_BW, is_final_BW, beams.hopeful_B1 & hopeful_B1, memory,
    )  # fmt: skip


def _pick(x_BW: jax.Array, index_BC: jax.Array) -> jax.Array:
    """Rows of each batch element: x[b, index[b, c]]."""
    return jax.vmap(lambda x, index: x[index])(x_BW, index_BC)
