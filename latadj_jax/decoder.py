"""What causal decoders share: elimination in the prompt, caches, and reading on from them.

A prompt's word-vectors are ranked by the prompt's own queries only, so nothing that comes later
can change what is removed. Layer l's cache holds the keys and values of its N_{l-1} inputs; every
later token runs through all layers against these smaller caches.

A position here is counted from the first valid token of its row; -1 marks an empty slot.
"""

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.eliminate import Cut, put_back, select, take, take_positions
from latadj_jax.layers import attend_grouped, grouped_attention_probs
from latadj_jax.outputs import Output
from latadj_jax.plan import Plan
from latadj_jax.ranking import WINDOW, novelty, of_layer, ranking, window_score, with_recent
from latadj_jax.score import causal_score_vector


@struct.dataclass
class LayerCache:
    """Keys and values that one layer's later queries see.

    Attributes:
      keys, values: [B, G, J, C]; G key-value heads, J slots.
      positions: int32 [B, J].
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array

    def with_room(self, slots: int) -> "LayerCache":
        """The same cache with that many empty slots at its end."""
        wide = ((0, 0), (0, 0), (0, slots), (0, 0))
        return LayerCache(
            jnp.pad(self.keys, wide),
            jnp.pad(self.values, wide),
            jnp.pad(self.positions, ((0, 0), (0, slots)), constant_values=-1),
        )

    def write(self, new: "LayerCache", slot: jax.Array) -> "LayerCache":
        """`new` written over the slots from `slot` on."""
        update = jax.lax.dynamic_update_slice_in_dim
        return LayerCache(
            update(self.keys, new.keys, slot, axis=2),
            update(self.values, new.values, slot, axis=2),
            update(self.positions, new.positions, slot, axis=1),
        )


def sees(queries_BI: jax.Array, keys_BJ: jax.Array) -> jax.Array:
    """Causal mask [B, I, J] by position, whatever slots the keys stand in."""
    return (keys_BJ >= 0)[:, None, :] & (keys_BJ[:, None, :] <= queries_BI[:, :, None])


def cut_and_attend(queries, normed_BLD, x_BLD, new: LayerCache, cache, slot, cut, key, dropout):
    """The attention of one layer, with its cut: what it keeps of what entered.

    Args:
      queries: function of (normed, positions) that gives q_BLHC.
      normed_BLD, x_BLD: what the queries are made of, and the residual branch.
      new: keys, values and positions of the same word-vectors.
      cache, slot: of the tokens before, where these are read on from a prompt: all stay.
      dropout: of attention probabilities.

    The last valid token is protected: what follows the prompt is read off it.

    Returns:
      attention output [B, K, H * C], x_BKD, positions_BK, scores_BL or None, and the cache.
    """
    positions_BL = new.positions
    cache = new if cache is None else cache.write(new, slot)

    valid_BL = positions_BL >= 0

    def probs_of(normed_BLD, positions_BL):
        seen_BLJ = sees(positions_BL, cache.positions)
        return grouped_attention_probs(queries(normed_BLD, positions_BL), cache.keys, seen_BLJ)

    probs_BHLJ = probs_of(normed_BLD, positions_BL)
    scores_BL = causal_score_vector(probs_BHLJ, valid_BL) if cache is new else None
    if cut is not None:
        if cut.strategy == "window":
            last_BW = jnp.sum(valid_BL, axis=1, keepdims=True) - 1 - jnp.arange(WINDOW)[None, :]
            last_BW = jnp.maximum(last_BW, -1)
            asked_BW, slots_BW = last_BW >= 0, jnp.maximum(last_BW, 0)
            asking_BHWJ = probs_of(take(normed_BLD, slots_BW), take(positions_BL, slots_BW))
            ranking_BL = window_score(asking_BHWJ, asked_BW)
        elif cut.strategy == "novelty":
            ranking_BL = novelty(x_BLD, valid_BL)
        else:
            ranking_BL = ranking(cut.strategy, scores_BL, positions_BL, key)
        if cut.strategy in ("window", "novelty"):
            ranking_BL = with_recent(ranking_BL, positions_BL, cut.count_B)
        protected_BL = positions_BL == jnp.max(positions_BL, axis=1, keepdims=True)
        keep_BK = select(ranking_BL, valid_BL, protected_BL, cut.count_B, cut.size)
        x_BLD, positions_BL = take(x_BLD, keep_BK), take_positions(positions_BL, keep_BK)
        if cut.strategy == "score":
            probs_BHLJ = take(probs_BHLJ, keep_BK, axis=2)
        else:  # ranked without them: what is removed never becomes a query
            probs_BHLJ = probs_of(take(normed_BLD, keep_BK), positions_BL)
    heads_BKE = attend_grouped(dropout(probs_BHLJ), cache.values)
    return heads_BKE, x_BLD, positions_BL, scores_BL, cache


def run(decoder, inputs, plan: Plan, restore: bool, train: bool) -> Output:
    """A family's `__call__`: the prompt, and the head of its task."""
    out, _, _ = read_prompt(decoder, inputs, plan, restore, train)
    if decoder.task == "lm":
        return out.replace(logits=token_logits(decoder, out.hidden))
    if decoder.task == "features":
        return out
    return out.replace(logits=decoder.classifier(last_hidden(out)).astype(jnp.float32))


def token_logits(decoder, hidden_BLD: jax.Array) -> jax.Array:
    """Scores of the next token, float32 [B, L, V]."""
    head = decoder.word.attend if decoder.cfg.tied else decoder.head
    return head(hidden_BLD).astype(jnp.float32)


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
    x_BLD = decoder.embed(ids_BT, jnp.maximum(positions_BL, 0), train)
    lengths_B = jnp.max(positions_BL, axis=1) + 1

    counts_BL = plan.example_counts(valid_BT.sum(axis=1, dtype=jnp.int32))
    by_row_BTD = jnp.zeros_like(x_BLD)
    scores, caches = [], []
    for n, layer in enumerate(decoder.layers):
        cut, rows_BL = None, rows_of(positions_BL, start_B1)
        if plan.rates[n] < 1:
            cut = Cut(counts_BL[:, n], plan.sizes[n], of_layer(plan.strategy, n, plan.num_layers))
            by_row_BTD = put_back(by_row_BTD, x_BLD, rows_BL)
        if last_only and n == len(decoder.layers) - 1:
            cut = Cut(jnp.ones_like(lengths_B), 1, "recent")
        x_BLD, positions_BL, scores_BL, cache = layer(x_BLD, positions_BL, cut=cut, train=train)
        if scores_BL.shape[1] == length:  # nothing removed yet: by row, as the input
            scores_BL = put_back(jnp.zeros_like(scores_BL), scores_BL, rows_BL)
        scores.append(scores_BL)
        caches.append(cache)

    rows_BL = rows_of(positions_BL, start_B1)
    if (restore or plan.is_dense) and not last_only:
        x_BLD = put_back(by_row_BTD, x_BLD, rows_BL)
        rows_BL = jnp.where(valid_BT, jnp.arange(length, dtype=jnp.int32)[None, :], -1)
    hidden_BLD = decoder.final_norm(x_BLD)
    hidden_BLD = jnp.where(rows_BL[:, :, None] < 0, jnp.zeros_like(hidden_BLD), hidden_BLD)
    out = Output(None, hidden_BLD, None, rows_BL, tuple(scores))
    return out, tuple(caches), lengths_B


def rows_of(positions_BL: jax.Array, start_B1: jax.Array) -> jax.Array:
    """Index into the row of `input_ids`, of positions counted from the first valid token."""
    return jnp.where(positions_BL < 0, -1, positions_BL + start_B1)


def last_hidden(out: Output) -> jax.Array:
    """Final hidden state of each row's last valid token: [B, D]."""
    slot_B = jnp.argmax(out.positions, axis=1)
    return jnp.take_along_axis(out.hidden, slot_B[:, None, None], axis=1)[:, 0]


def read_on(decoder, ids_BS: jax.Array, first_B: jax.Array, caches, slots, train: bool = False):
    """Reads tokens that follow what is cached, with no elimination: (hidden [B, S, D], caches).

    Args:
      first_B: int32, position of the first of these tokens in each row.
      caches: of each layer, with room for S more from its slot in `slots` on.
    """
    positions_BS = first_B[:, None] + jnp.arange(ids_BS.shape[1], dtype=jnp.int32)[None, :]
    x_BSD = decoder.embed(ids_BS, positions_BS, train)
    written = []
    for layer, cache, slot in zip(decoder.layers, caches, slots, strict=True):
        x_BSD, _, _, cache = layer(x_BSD, positions_BS, cache=cache, slot=slot, train=train)
        written.append(cache)
    return decoder.final_norm(x_BSD), tuple(written)
