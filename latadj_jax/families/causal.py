"""What causal decoders share: the prompt with elimination, and reading on from its caches.

A prompt's word-vectors are ranked by the prompt's own queries only, so nothing that comes later
can change what is removed. Layer l's cache holds the keys and values of its N_{l-1} inputs; every
later token runs through all layers against these smaller caches.
"""

import jax
import jax.numpy as jnp

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.eliminate import Cut, put_back, take
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.strategies import of_layer
from latadj_jax.families.output import Output


def run(decoder, inputs, plan: Plan, restore: bool, train: bool) -> Output:
    """A family's `__call__`: the prompt, and the head of its task."""
    out, _, _ = read_prompt(decoder, inputs, plan, restore, train)
    if decoder.task == "lm":
        return out.replace(logits=token_logits(decoder, out.hidden))
    if decoder.task == "features":
        return out
    return out.replace(logits=decoder.classifier(last_hidden(out)))


def token_logits(decoder, hidden_BLD: jax.Array) -> jax.Array:
    """Scores of the next token, float32 [B, L, V]."""
    head = decoder.word.attend if decoder.cfg.tied else decoder.head
    return head(hidden_BLD)


def read_prompt(decoder, inputs, plan: Plan, restore=False, train=False, last_only=False):
    """Runs a prompt with elimination: (Output without logits, caches, lengths).

    Args:
      decoder: the family's module, with `embed(ids, positions, train)`, `layers` and `final_norm`.
      inputs, plan, restore, train: as `apply` has them.
      last_only: no more than the last token's hidden state is wanted, [B, 1, D]; of the others
        the last layer makes keys and values only.

    Returns:
      caches: of each layer, its N_{l-1} inputs.
      lengths: int32 [B], positions in each row: the next token's position.
    """
    valid_BT = inputs["attention_mask"]
    length = valid_BT.shape[1]
    start_B1 = jnp.argmax(valid_BT, axis=1, keepdims=True).astype(jnp.int32)
    # Valid tokens first, in their order: wherever the padding was, slots ascend by position.
    order_BT = jnp.argsort(~valid_BT, axis=1, stable=True).astype(jnp.int32)
    rows_BT = jnp.where(take(valid_BT, order_BT), order_BT, -1)
    positions_BL = jnp.where(rows_BT < 0, -1, rows_BT - start_B1)
    ids_BT = take(inputs["input_ids"], order_BT)
    x_BLD = split_by_rows(decoder.embed(ids_BT, jnp.maximum(positions_BL, 0), train))
    lengths_B = jnp.max(positions_BL, axis=1) + 1

    counts_by_layer = plan.example_counts(valid_BT.sum(axis=1, dtype=jnp.int32))
    by_row_BTD = jnp.zeros_like(x_BLD)
    scores, entered, caches = [], [], []
    for n, layer in enumerate(decoder.layers):
        cut, rows_BL = None, rows_of(positions_BL, start_B1)
        if plan.rates[n] < 1:
            strategy = of_layer(plan.strategy, n, plan.num_layers)
            cut = Cut(counts_by_layer[:, n], plan.sizes[n], strategy, plan.removed[n])
            by_row_BTD = put_back(by_row_BTD, x_BLD, rows_BL)
        if last_only and n == len(decoder.layers) - 1:
            cut = Cut(jnp.ones_like(lengths_B), 1, "recent", positions_BL.shape[1] - 1)
        x_BLD, positions_BL, scores_BL, cache = layer(x_BLD, positions_BL, cut, None, 0, train)
        x_BLD = split_by_rows(x_BLD)
        if scores_BL.shape[1] == length:  # room for all: by row, as the input
            scores_BL = put_back(jnp.zeros_like(scores_BL), scores_BL, rows_BL)
            rows_BL = put_back(jnp.full_like(rows_BL, -1), rows_BL, rows_BL)
        scores.append(scores_BL)
        entered.append(rows_BL)
        caches.append(cache)

    rows_BL = rows_of(positions_BL, start_B1)
    if (restore or plan.is_dense) and not last_only:
        x_BLD = put_back(by_row_BTD, x_BLD, rows_BL)
        rows_BL = jnp.where(valid_BT, jnp.arange(length, dtype=jnp.int32)[None, :], -1)
    hidden_BLD = decoder.final_norm(x_BLD)
    hidden_BLD = jnp.where(rows_BL[:, :, None] < 0, jnp.zeros_like(hidden_BLD), hidden_BLD)
    out = Output(None, hidden_BLD, None, rows_BL, tuple(scores), tuple(entered))
    return out, tuple(caches), lengths_B


def continuation(decoder, inputs, plan: Plan, ids_BS: jax.Array, train: bool = False) -> jax.Array:
    """Logits after a pruned prompt and after each token that follows it, float32 [B, S + 1, V]."""
    out, caches, lengths_B = read_prompt(decoder, inputs, plan, train=train, last_only=True)
    hidden_BSD = last_hidden(out)[:, None]
    if ids_BS.shape[1]:
        slots = [cache.keys.shape[2] for cache in caches]
        caches = [cache.with_room(ids_BS.shape[1]) for cache in caches]
        following_BSD, _ = read_on(decoder, ids_BS, lengths_B, caches, slots, train)
        hidden_BSD = jnp.concatenate([hidden_BSD, following_BSD], axis=1)
    return token_logits(decoder, hidden_BSD)


def begin(decoder, inputs, plan: Plan, room: int):
    """Reads a prompt: (logits of the first new token [B, V], memory with room for new tokens)."""
    out, caches, lengths_B = read_prompt(decoder, inputs, plan, last_only=True)
    caches = tuple(cache.with_room(room) for cache in caches)
    return token_logits(decoder, last_hidden(out)), (caches, lengths_B)


def go_on(decoder, plan: Plan, token_B: jax.Array, step: jax.Array, memory):
    """Reads new token number `step`, from 0: (logits of the next one [B, V], memory)."""
    caches, lengths_B = memory
    slots = [size + step for size in (plan.length, *plan.sizes[:-1])]
    hidden_B1D, caches = read_on(decoder, token_B[:, None], lengths_B + step, caches, slots)
    return token_logits(decoder, hidden_B1D[:, 0]), (caches, lengths_B)


def reorder(decoder, memory, rows_B: jax.Array):
    """The memory of other rows, for beams: row b becomes what row `rows[b]` was."""
    return jax.tree.map(lambda x: x[rows_B], memory)


def rows_of(positions_BL: jax.Array, start_B1: jax.Array) -> jax.Array:
    """Index into the row of `input_ids`, of positions counted from the first valid token."""
    return jnp.where(positions_BL < 0, -1, positions_BL + start_B1)


def last_hidden(out: Output) -> jax.Array:
    """Final hidden state of each row's last valid token: [B, D].

    Hugging Face's classifiers ignore the mask and read the last id that is not pad_token_id: the
    same token, unless a text itself ends with that id.
    """
    slot_B = jnp.argmax(out.positions, axis=1)
    return jnp.take_along_axis(out.hidden, slot_B[:, None, None], axis=1)[:, 0]


def read_on(decoder, ids_BS: jax.Array, first_B: jax.Array, caches, slots, train: bool = False):
    """Reads tokens that follow what is cached, with no elimination: (hidden [B, S, D], caches).

    Args:
      first_B: int32, position of the first of these tokens in each row.
      caches: of each layer, with room for S more from its slot in `slots` on.
    """
    positions_BS = first_B[:, None] + jnp.arange(ids_BS.shape[1], dtype=jnp.int32)[None, :]
    x_BSD = split_by_rows(decoder.embed(ids_BS, positions_BS, train))
    written = []
    for layer, cache, slot in zip(decoder.layers, caches, slots, strict=True):
        x_BSD, _, _, cache = layer(x_BSD, positions_BS, None, cache, slot, train)
        x_BSD = split_by_rows(x_BSD)
        written.append(cache)
    return decoder.final_norm(x_BSD), tuple(written)
