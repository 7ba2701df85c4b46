"""T5 with elimination of word-vectors in the encoder; the decoder attends to those that remain.

RMS norms before each block, no biases, logits that are not scaled, a relative position bias shared
by all layers of a stack and taken at the original positions of what remains. No position is
protected.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.cached_attention import LayerCache, sees
from latadj_jax.config import T5Config
from latadj_jax.eliminate import Cut, put_back, select, take, take_positions
from latadj_jax.layers import (
    ACTIVATIONS,
    Dropout,
    RMSNorm,
    attend,
    attention_probs,
    grouped_attention,
    split_heads,
)
from latadj_jax.outputs import Output
from latadj_jax.plan import Plan
from latadj_jax.ranking import ENCODER_STRATEGIES, ranking
from latadj_jax.relative import RelativeBias
from latadj_jax.score import score_vector


def _dense(cfg: T5Config, dtype, width: int, fan_in: int, name: str) -> nn.Dense:
    """Without bias; random weights that keep the size of what comes in, as T5 draws them."""
    init = nn.initializers.normal(cfg.initializer_factor * fan_in**-0.5)
    return nn.Dense(width, False, dtype=dtype, kernel_init=init, name=name)


class T5FeedForward(nn.Module):
    cfg: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD, train: bool):
        cfg = self.cfg
        dense = partial(_dense, cfg, self.dtype)
        dropout = partial(Dropout(cfg.dropout), train=train)
        normed_BLD = RMSNorm(cfg.norm_eps, name="norm")(x_BLD)
        activation = ACTIVATIONS[cfg.activation]
        if cfg.gated:
            gate_BLF = dense(cfg.intermediate_size, cfg.hidden_size, "gate")(normed_BLD)
            up_BLF = dense(cfg.intermediate_size, cfg.hidden_size, "up")(normed_BLD)
            wide_BLF = activation(gate_BLF) * up_BLF
        else:
            wide_BLF = activation(dense(cfg.intermediate_size, cfg.hidden_size, "wide")(normed_BLD))
        narrow_BLD = dense(cfg.hidden_size, cfg.intermediate_size, "down")(dropout(wide_BLF))
        return x_BLD + dropout(narrow_BLD)


class T5EncoderLayer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD, positions_BL, bias_BHLL, cut: Cut | None, train: bool):
        cfg = self.cfg
        dense = partial(_dense, cfg, self.dtype)
        dropout = partial(Dropout(cfg.dropout), train=train)
        normed_BLD = RMSNorm(cfg.norm_eps, name="attention_norm")(x_BLD)
        fan_ins = {"query": cfg.hidden_size * cfg.head_size, "key": cfg.hidden_size,
                   "value": cfg.hidden_size}  # fmt: skip
        q_BLHC, k_BLHC, v_BLHC = (
            split_heads(dense(cfg.query_size, fan_in, name)(normed_BLD), cfg.num_heads)
            for name, fan_in in fan_ins.items()
        )
        valid_BL = positions_BL >= 0
        probs_BHLL = attention_probs(q_BLHC, k_BLHC, valid_BL[:, None, :], bias_BHLL, scale=1.0)
        scores_BL = score_vector(probs_BHLL, valid_BL)

        if cut is not None:
            key = self.make_rng("eliminate") if cut.strategy == "random" else None
            ranking_BL = ranking(cut.strategy, scores_BL, positions_BL, key)
            nothing_BL = jnp.zeros_like(valid_BL)
            keep_BK = select(ranking_BL, valid_BL, nothing_BL, cut.count_B, cut.size)
            probs_BHLL = take(probs_BHLL, keep_BK, axis=2)
            x_BLD = take(x_BLD, keep_BK)
            positions_BL = take_positions(positions_BL, keep_BK)

        heads_BKE = attend(dropout(probs_BHLL), v_BLHC)
        out = dense(cfg.hidden_size, cfg.query_size, "attention_out")
        x_BKD = x_BLD + dropout(out(heads_BKE))
        x_BKD = T5FeedForward(cfg, self.dtype, name="ff")(x_BKD, train)
        return x_BKD, positions_BL, scores_BL


class T5DecoderLayer(nn.Module):
    """Causal attention against a cache, attention to the encoder, feed-forward."""

    cfg: T5Config
    dtype: jnp.dtype

    def setup(self):
        cfg = self.cfg
        size, query_size = cfg.hidden_size, cfg.query_size

        def dense(width, fan_in):
            return _dense(cfg, self.dtype, width, fan_in, None)

        self.attention_norm, self.cross_norm = RMSNorm(cfg.norm_eps), RMSNorm(cfg.norm_eps)
        self.query = dense(query_size, size * cfg.head_size)
        self.key, self.value = dense(query_size, size), dense(query_size, size)
        self.attention_out = dense(size, query_size)
        self.cross_query = dense(query_size, size * cfg.head_size)
        self.cross_key, self.cross_value = dense(query_size, size), dense(query_size, size)
        self.cross_out = dense(size, query_size)
        self.ff = T5FeedForward(cfg, self.dtype)
        self.dropout = Dropout(cfg.dropout)

    def memory(self, encoded_BKD: jax.Array, positions_BK: jax.Array) -> LayerCache:
        """Keys and values of what remains of the encoder, made once for all tokens."""
        keys, values = (
            self._heads(self.cross_key, encoded_BKD),
            self._heads(self.cross_value, encoded_BKD),
        )
        return LayerCache(keys.swapaxes(1, 2), values.swapaxes(1, 2), positions_BK)

    def __call__(self, x_BSD, positions_BS, bias, memory, cache, slot, train):
        """Reads tokens at `positions`, after those in `cache` (or nothing).

        Args:
          bias: function of (query positions, key positions) that gives [B, H, S, J].

        Returns:
          x_BSD and the cache, these tokens written from `slot` on.
        """
        dropout = partial(self.dropout, train=train)
        normed_BSD = self.attention_norm(x_BSD)
        keys, values = self._heads(self.key, normed_BSD), self._heads(self.value, normed_BSD)
        new = LayerCache(keys.swapaxes(1, 2), values.swapaxes(1, 2), positions_BS)
        cache = new if cache is None else cache.write(new, slot)
        q_BSHC = self._heads(self.query, normed_BSD)
        heads_BSE = grouped_attention(
            q_BSHC, cache.keys, cache.values, sees(positions_BS, cache.positions), dropout,
            bias(positions_BS, cache.positions), scale=1.0,
        )  # fmt: skip
        x_BSD = x_BSD + dropout(self.attention_out(heads_BSE))

        q_BSHC = self._heads(self.cross_query, self.cross_norm(x_BSD))
        present_B1K = memory.positions[:, None, :] >= 0
        heads_BSE = grouped_attention(
            q_BSHC, memory.keys, memory.values, present_B1K, dropout, scale=1.0
        )
        x_BSD = x_BSD + dropout(self.cross_out(heads_BSE))
        return self.ff(x_BSD, train), cache

    def _heads(self, dense, x_BLD: jax.Array) -> jax.Array:
        return split_heads(dense(x_BLD), self.cfg.num_heads)


class T5(nn.Module):
    """T5 for one task: "features" (the encoder alone) or "seq2seq"."""

    cfg: T5Config
    task: str
    dtype: jnp.dtype = jnp.float32

    protected = 0
    strategies = ENCODER_STRATEGIES

    def setup(self):
        cfg = self.cfg
        normal = nn.initializers.normal
        self.shared = nn.Embed(
            cfg.vocab_size,
            cfg.hidden_size,
            self.dtype,
            embedding_init=normal(cfg.initializer_factor),
        )
        bias = partial(
            RelativeBias, cfg.num_buckets, cfg.max_distance, cfg.num_heads, dtype=jnp.float32
        )
        self.encoder_bias = bias(both_ways=True)
        self.encoder_layers = [
            T5EncoderLayer(cfg, self.dtype, name=f"encoder_layer_{n}")
            for n in range(cfg.num_layers)
        ]
        self.encoder_norm = RMSNorm(cfg.norm_eps)
        self.dropout = Dropout(cfg.dropout)
        if self.task == "seq2seq":
            self.decoder_bias = bias(both_ways=False)
            self.decoder_layers = [
                T5DecoderLayer(cfg, self.dtype, name=f"decoder_layer_{n}")
                for n in range(cfg.num_decoder_layers)
            ]
            self.decoder_norm = RMSNorm(cfg.norm_eps)
            if not cfg.tied:
                init = normal(cfg.initializer_factor)
                self.head = nn.Dense(cfg.vocab_size, False, dtype=self.dtype, kernel_init=init)

    @nn.nowrap
    def input_ranges(self, cfg: T5Config) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        names = ("input_ids", "decoder_input_ids")[: 1 + (self.task == "seq2seq")]
        return dict.fromkeys(names, cfg.vocab_size)

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        """The encoder with elimination; for "seq2seq" also logits [B, S, V] of the decoder.

        Args:
          inputs: `input_ids` [B, T], `attention_mask` bool [B, T], `decoder_input_ids` [B, S].
          plan, restore, train: as `apply` has them; the decoder attends to what remains, restored
            or not.
        """
        out, encoded_BKD, positions_BK = self.encode(inputs, plan, restore, train)
        if self.task == "features":
            return out
        ids_BS = inputs["decoder_input_ids"]
        memories = self.memories(encoded_BKD, positions_BK)
        positions_BS = jnp.broadcast_to(
            jnp.arange(ids_BS.shape[1], dtype=jnp.int32)[None, :], ids_BS.shape
        )
        caches = [None] * len(self.decoder_layers)
        logits_BSV, _ = self.decode(
            ids_BS, positions_BS, memories, caches, 0, ids_BS.shape[1], train
        )
        return out.replace(logits=logits_BSV)

    def encode(self, inputs, plan: Plan, restore: bool = False, train: bool = False):
        """(Output without logits, what remains [B, N_L, D] after the final norm, its positions)."""
        ids_BL, valid_BL = inputs["input_ids"], inputs["attention_mask"]
        length = ids_BL.shape[1]
        rows_1L = jnp.arange(length, dtype=jnp.int32)[None, :]
        positions_BL = all_positions_BT = jnp.where(valid_BL, rows_1L, -1)
        x_BLD = self.dropout(self.shared(ids_BL), train)
        counts_BL = plan.example_counts(valid_BL.sum(axis=1, dtype=jnp.int32))
        restored_BTD, scores = jnp.zeros_like(x_BLD), []
        # Of all rows as long as nothing was removed: one bias for the whole batch.
        bias_BHLL = self.encoder_bias(rows_1L, rows_1L, length)
        for n, layer in enumerate(self.encoder_layers):
            cut = None
            if plan.rates[n] < 1:
                cut = Cut(counts_BL[:, n], plan.sizes[n], plan.strategy)
                restored_BTD = put_back(restored_BTD, x_BLD, positions_BL)
            x_BLD, positions_BL, scores_BL = layer(x_BLD, positions_BL, bias_BHLL, cut, train)
            if cut is not None:
                bias_BHLL = self.encoder_bias(positions_BL, positions_BL, length)
            scores.append(scores_BL)

        encoded_BKD = self._finish(x_BLD, positions_BL, plan, train)
        hidden, positions = encoded_BKD, positions_BL
        if restore and not plan.is_dense:
            whole_BTD = put_back(restored_BTD, x_BLD, positions_BL)
            hidden, positions = (
                self._finish(whole_BTD, all_positions_BT, plan, train),
                all_positions_BT,
            )
        return Output(None, hidden, None, positions, tuple(scores)), encoded_BKD, positions_BL

    def continuation(self, inputs, plan: Plan, ids_BS: jax.Array, train: bool = False) -> jax.Array:
        """Logits of the first target token and after each of `ids`, float32 [B, S + 1, V]."""
        start_B1 = jnp.full((len(ids_BS), 1), self.cfg.decoder_start, jnp.int32)
        ids_BS = jnp.concatenate([start_B1, ids_BS], axis=1)
        return self({**inputs, "decoder_input_ids": ids_BS}, plan, train=train).logits

    def begin(self, inputs, plan: Plan, room: int):
        """Encodes: (logits of the first target token [B, V], memory with room for new tokens)."""
        _, encoded_BKD, positions_BK = self.encode(inputs, plan)
        memories = self.memories(encoded_BKD, positions_BK)
        start_B1 = jnp.full((len(encoded_BKD), 1), self.cfg.decoder_start, jnp.int32)
        caches = [None] * len(self.decoder_layers)
        first_B1 = jnp.zeros_like(start_B1)
        logits_B1V, caches = self.decode(start_B1, first_B1, memories, caches, 0, room + 1)
        return logits_B1V[:, 0], (memories, tuple(cache.with_room(room) for cache in caches))

    def go_on(self, plan: Plan, token_B: jax.Array, step: jax.Array, memory):
        """Reads new token number `step`, from 0: (logits of the next one [B, V], memory)."""
        memories, caches = memory
        slot, room = step + 1, caches[0].positions.shape[1]  # the start token stands at slot 0
        positions_B1 = jnp.broadcast_to(slot, (len(token_B), 1))
        logits_B1V, caches = self.decode(
            token_B[:, None], positions_B1, memories, caches, slot, room
        )
        return logits_B1V[:, 0], (memories, caches)

    def reorder(self, memory, rows_B: jax.Array):
        """Row b becomes what row `rows[b]` was, of the same source: what was encoded stays."""
        memories, caches = memory
        return memories, jax.tree.map(lambda x: x[rows_B], caches)

    def memories(self, encoded_BKD: jax.Array, positions_BK: jax.Array) -> tuple[LayerCache, ...]:
        """What each decoder layer attends to."""
        return tuple(layer.memory(encoded_BKD, positions_BK) for layer in self.decoder_layers)

    def decode(self, ids_BS, positions_BS, memories, caches, slot, room: int, train: bool = False):
        """Logits [B, S, V] of tokens that are read after those in `caches`, and the caches.

        Args:
          room: how many tokens there can be in all.
        """
        bias = partial(self.decoder_bias, length=room)
        x_BSD = self.dropout(self.shared(ids_BS), train)
        written = []
        for layer, memory, cache in zip(self.decoder_layers, memories, caches, strict=True):
            x_BSD, cache = layer(x_BSD, positions_BS, bias, memory, cache, slot, train)
            written.append(cache)
        x_BSD = self.dropout(self.decoder_norm(x_BSD), train)
        if self.cfg.scaled:
            x_BSD = x_BSD * self.cfg.hidden_size**-0.5
        logits_BSV = (self.shared.attend if self.cfg.tied else self.head)(x_BSD)
        return logits_BSV.astype(jnp.float32), tuple(written)

    def _finish(self, x_BLD, positions_BL, plan: Plan, train: bool) -> jax.Array:
        x_BLD = self.dropout(self.encoder_norm(x_BLD), train)
        if plan.is_dense:
            return x_BLD
        return jnp.where(positions_BL[:, :, None] < 0, jnp.zeros_like(x_BLD), x_BLD)
