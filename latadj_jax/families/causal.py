"""What causal decoders share: the prompt with elimination, reading on from its caches, and heads.

A prompt's word-vectors are ranked by the prompt's own queries only, so nothing that comes later
can change what is removed. Layer l's cache holds the keys and values of its N_{l-1} inputs; every
later token runs through all layers against these smaller caches, but for layers that the prompt
skipped: they have no cache, and are skipped again.

A family's base model has `embed(ids, positions, train)`, `word`, `layers` and `final_norm`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.cut import Cut, Words
from latadj_jax.elimination.eliminate import put_back, take
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.strategies import RECENT
from latadj_jax.families.heads import last_hidden
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.output import Output
from latadj_jax.layers.modules import Dense


def read_prompt(base, inputs, plan: Plan, restore=False, train=False, last_only=False):
    """Runs a prompt with elimination: (Output without logits, caches, lengths).

    Args:
      inputs, plan, restore, train: as `apply` has them.
      last_only: no more than the last token's hidden state is wanted, [B, 1, D]; of the others
        the last layer makes keys and values only.

    Returns:
      caches: of each layer, its N_{l-1} inputs; None of one that is skipped.
      lengths: int32 [B], positions in each row: the next token's position.
    """
    valid_BT = inputs["attention_mask"]
    length = valid_BT.shape[1]
    start_B1 = jnp.argmax(valid_BT, axis=1, keepdims=True).astype(jnp.int32)
    # Valid tokens first, in their order: wherever the padding was, slots ascend by position.
    order_BT = jnp.argsort(~valid_BT, axis=1, stable=True).astype(jnp.int32)
    rows_BT = jnp.where(take(valid_BT, order_BT), order_BT, -1)
    positions_BT = jnp.where(rows_BT < 0, -1, rows_BT - start_B1)
    ids_BT = take(inputs["input_ids"], order_BT)
    last_B1 = jnp.max(positions_BT, axis=1, keepdims=True)
    x_BTD = split_by_rows(base.embed(ids_BT, jnp.maximum(positions_BT, 0), train))
    words = Words(x_BTD, positions_BT, ids_BT, protected_BL=positions_BT == last_B1)

    cuts = [*plan.cuts(valid_BT.sum(axis=1, dtype=jnp.int32))]
    if last_only:
        last = plan.num_layers - 1 - plan.runs[::-1].index(True)
        cuts[last] = Cut(jnp.ones_like(last_B1[:, 0]), 1, RECENT, plan.into[last] - 1)
    removed_BTD = jnp.zeros_like(x_BTD)
    scores, entered, caches = [], [], []
    for layer, runs, cut in zip(base.layers, plan.runs, cuts, strict=True):
        rows_BL = in_rows(words.positions_BL, start_B1)
        if cut is not None:
            removed_BTD = put_back(removed_BTD, words.x_BLD, rows_BL)
        scores_BL = cache = None
        if runs:
            words, scores_BL, cache = layer(words, cut, None, 0, train)
            words = words.replace(x_BLD=split_by_rows(words.x_BLD))
            if scores_BL.shape[1] == length:  # room for all: by row, as the input
                scores_BL = put_back(jnp.zeros_like(scores_BL), scores_BL, rows_BL)
        if rows_BL.shape[1] == length:
            rows_BL = put_back(jnp.full_like(rows_BL, -1), rows_BL, rows_BL)
        scores.append(scores_BL)
        entered.append(rows_BL)
        caches.append(cache)

    x_BLD, rows_BL = words.x_BLD, in_rows(words.positions_BL, start_B1)
    left_BL = rows_BL
    if (restore or plan.is_dense) and not last_only:
        x_BLD = put_back(removed_BTD, x_BLD, rows_BL)
        rows_BL = jnp.where(valid_BT, jnp.arange(length, dtype=jnp.int32)[None, :], -1)
    hidden_BLD = base.final_norm(x_BLD)
    hidden_BLD = jnp.where(rows_BL[:, :, None] < 0, jnp.zeros_like(hidden_BLD), hidden_BLD)
    sizes_BL = (rows_BL >= 0).astype(jnp.float32)
    out = Output(None, hidden_BLD, None, rows_BL, sizes_BL, tuple(scores), tuple(entered), left_BL)
    return out, tuple(caches), last_B1[:, 0] + 1


def read_on(base, ids_BS: jax.Array, first_B: jax.Array, caches, slots, train: bool = False):
    """Reads tokens that follow what is cached, with no elimination: (hidden [B, S, D], caches).

    Args:
      first_B: int32, position of the first of these tokens in each row.
      caches: of each layer, with room for S more from its slot in `slots` on; layers without one
        are skipped.
    """
    positions_BS = first_B[:, None] + jnp.arange(ids_BS.shape[1], dtype=jnp.int32)[None, :]
    words = Words(split_by_rows(base.embed(ids_BS, positions_BS, train)), positions_BS, ids_BS)
    written = []
    for layer, cache, slot in zip(base.layers, caches, slots, strict=True):
        if cache is not None:
            words, _, cache = layer(words, None, cache, slot, train)
            words = words.replace(x_BLD=split_by_rows(words.x_BLD))
        written.append(cache)
    return base.final_norm(words.x_BLD), tuple(written)


def _with_room(caches, room: int) -> tuple:
    return tuple(cache if cache is None else cache.with_room(room) for cache in caches)


def in_rows(positions_BL: jax.Array, start_B1: jax.Array) -> jax.Array:
    """Index into the row of `input_ids`, of positions counted from the first valid token."""
    return jnp.where(positions_BL < 0, -1, positions_BL + start_B1)


class LanguageModelHead(nn.Module):
    """Logits of the next token, and writing on."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    def setup(self):
        if not self.cfg.tied:
            init = nn.initializers.normal(self.cfg.initializer_range)
            self.head = Dense(
                self.cfg.vocab_size, use_bias=False, wide=True, dtype=self.dtype, kernel_init=init
            )

    def logits(self, base, hidden_BLD: jax.Array) -> jax.Array:
        """Scores of the next token, float32 [B, L, V]."""
        return (base.word.attend if self.cfg.tied else self.head)(hidden_BLD)

    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = base(inputs, plan, restore, train)
        return out.replace(logits=self.logits(base, out.hidden))

    def continuation(self, base, inputs, plan: Plan, ids_BS: jax.Array, train: bool) -> jax.Array:
        out, caches, lengths_B = read_prompt(base, inputs, plan, train=train, last_only=True)
        hidden_BSD = last_hidden(out)[:, None]
        if ids_BS.shape[1]:
            caches = _with_room(caches, ids_BS.shape[1])
            following_BSD, _ = read_on(base, ids_BS, lengths_B, caches, plan.into, train)
            hidden_BSD = jnp.concatenate([hidden_BSD, following_BSD], axis=1)
        return self.logits(base, hidden_BSD)

    def begin(self, base, inputs, plan: Plan, room: int):
        out, caches, lengths_B = read_prompt(base, inputs, plan, last_only=True)
        return self.logits(base, last_hidden(out)), (_with_room(caches, room), lengths_B)

    def go_on(self, base, plan: Plan, token_B: jax.Array, step: jax.Array, memory):
        caches, lengths_B = memory
        slots = [size + step for size in plan.into]
        hidden_B1D, caches = read_on(base, token_B[:, None], lengths_B + step, caches, slots)
        return self.logits(base, hidden_B1D[:, 0]), (caches, lengths_B)

    def reorder(self, memory, rows_B: jax.Array):
        return jax.tree.map(lambda x: x[rows_B], memory)


class LastTokenClassifier(nn.Module):
    """Logits of a text, from the hidden state of its last token."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = base(inputs, plan, restore, train)
        init = nn.initializers.normal(self.cfg.initializer_range)
        classifier = Dense(
            len(self.cfg.labels), use_bias=False, wide=True, dtype=self.dtype, kernel_init=init,
            name="classifier",
        )  # fmt: skip
        return out.replace(logits=classifier(last_hidden(out)))
