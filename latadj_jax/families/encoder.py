"""What encoders share: running the layers, each with its cut, and putting back what was removed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.cut import Words
from latadj_jax.elimination.eliminate import put_back
from latadj_jax.elimination.plan import Plan
from latadj_jax.families.output import Output

READING = "reading"  # an input that a head adds: see `run`
PROTECTED = "protected"  # an input: 1 for tokens that are never removed, as far as a plan has room


def first_token(valid_BT: jax.Array) -> jax.Array:
    """The row of each text's first token, where CLS stands: int32 [B, 1]."""
    return jnp.argmax(valid_BT, axis=1, keepdims=True).astype(jnp.int32)


def words_of(x_BLD: jax.Array, inputs, plan: Plan, protected_B1: jax.Array | None = None) -> Words:
    """The word-vectors that enter the first layer.

    Args:
      inputs: those of the model; with PROTECTED, the first `plan.floor` tokens that it marks, the
        text's own protected one among them.
      protected_B1: the row of each text's protected token; None where there is none.
    """
    ids_BT, valid_BT = inputs["input_ids"], inputs["attention_mask"]
    rows_1T = jnp.arange(ids_BT.shape[1], dtype=jnp.int32)[None, :]
    positions_BT = jnp.where(valid_BT, rows_1T, -1)
    sizes_BT = jnp.ones(ids_BT.shape, jnp.float32) if plan.merges else None
    protected_BT = None if protected_B1 is None else positions_BT == protected_B1
    if PROTECTED in inputs:
        marked_BT = valid_BT & (inputs[PROTECTED] != 0)
        marked_BT = marked_BT if protected_BT is None else marked_BT | protected_BT
        protected_BT = marked_BT & (jnp.cumsum(marked_BT, axis=1, dtype=jnp.int32) <= plan.floor)
    masses_BTM = inputs.get("masses") if plan.merges else None
    owners_BT = jnp.broadcast_to(rows_1T, ids_BT.shape) if plan.joins else None
    return Words(
        split_by_rows(x_BLD), positions_BT, ids_BT, sizes_BT, protected_BT, masses_BTM, owners_BT
    )


def run(
    layers,
    words: Words,
    plan: Plan,
    train: bool,
    finish: Callable[[jax.Array], jax.Array] = lambda x_BLD: x_BLD,
    bias: Callable[[jax.Array, jax.Array], Any] | None = None,
    reading: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> tuple[Output, Callable[[], Output]]:
    """Runs the layers: the Output of what remains, and a function that restores the others.

    Args:
      layers: each a function of (words, bias, cut, train) that gives (words, scores).
      finish: what follows the last layer, of each hidden state by itself: a norm.
      bias: function of the positions of queries and keys [B, L] that gives what all layers add to
        their attention logits, or make that of; made anew wherever something was removed.
      reading: function of finished hidden states [B, L, D] and which are valid [B, L] that gives
        how open the head's answer for each is, [B, L]; None where no strategy asks.
    """
    every_BT, scores, entered = words.positions_BL, [], []
    removed_BTD = jnp.zeros_like(words.x_BLD)
    every_1T = jnp.arange(every_BT.shape[1], dtype=jnp.int32)[None, :]  # one for all examples
    bias_BHLL = None if bias is None else bias(every_1T, every_1T)
    valid_B = words.valid_BL.sum(axis=1, dtype=jnp.int32)
    for layer, runs, cut in zip(layers, plan.runs, plan.cuts(valid_B), strict=True):
        entered.append(words.positions_BL)
        if not runs:
            scores.append(None)
            continue
        if cut is not None:
            removed_BTD = put_back(removed_BTD, words.x_BLD, words.positions_BL)
            if reading is not None:
                words = words.replace(open_BL=reading(finish(words.x_BLD), words.valid_BL))
        words, scores_BL = layer(words, bias_BHLL, cut, train)
        words = words.replace(x_BLD=split_by_rows(words.x_BLD))
        if cut is not None and bias is not None:
            bias_BHLL = bias(words.positions_BL, words.positions_BL)
        scores.append(scores_BL)

    def output(x_BLD, positions_BL, sizes_BL=None, masses_BLM=None) -> Output:
        valid_BL = positions_BL >= 0
        hidden_BLD = finish(x_BLD)
        if not plan.is_dense:
            hidden_BLD = jnp.where(valid_BL[:, :, None], hidden_BLD, jnp.zeros_like(hidden_BLD))
        sizes_BL = valid_BL.astype(jnp.float32) * (1.0 if sizes_BL is None else sizes_BL)
        if masses_BLM is not None:
            masses_BLM = jnp.where(valid_BL[:, :, None], masses_BLM, 0.0)
        return Output(
            None, hidden_BLD, None, positions_BL, sizes_BL, tuple(scores), tuple(entered),
            left=words.positions_BL, masses=masses_BLM,
        )  # fmt: skip

    def restored() -> Output:
        if plan.is_dense:
            return remaining
        full_BTD = put_back(removed_BTD, words.x_BLD, words.positions_BL)
        if words.owners_BT is not None:
            full_BTD = jnp.take_along_axis(full_BTD, words.owners_BT[:, :, None], axis=1)
        return output(full_BTD, every_BT)

    remaining = output(words.x_BLD, words.positions_BL, words.sizes_BL, words.masses_BLM)
    return remaining, restored
