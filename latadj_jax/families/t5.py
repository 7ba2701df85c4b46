"""T5 with elimination of word-vectors in the encoder; the decoder attends to those that remain.

RMS norms before each block, no biases, logits that are not scaled, a relative position bias shared
by all layers of a stack and taken at the original positions of what remains. No position is
protected.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.eliminate import Cut, put_back
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.strategies import ENCODER_STRATEGIES
from latadj_jax.families.causal_attention import LayerCache
from latadj_jax.families.config import T5Config
from latadj_jax.families.output import Output
from latadj_jax.families.t5_layers import T5DecoderLayer, T5EncoderLayer
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import RMSNorm
from latadj_jax.layers.relative_bias import RelativeBias


class T5(nn.Module):
    """T5 for one task: "features" (the encoder alone) or "seq2seq"."""

    cfg: T5Config
    task: str
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    protected = 0
    strategies = ENCODER_STRATEGIES

    def setup(self):
        cfg = self.cfg
        normal = nn.initializers.normal
        init = normal(cfg.initializer_factor)
        self.shared = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        bias = partial(
            RelativeBias, cfg.num_buckets, cfg.max_distance, cfg.num_heads, dtype=jnp.float32
        )
        self.encoder_bias = bias(both_ways=True)
        encoder_layer = layer_class(T5EncoderLayer, self.remat, 5)
        self.encoder_layers = [
            encoder_layer(cfg, self.dtype, name=f"encoder_layer_{n}") for n in range(cfg.num_layers)
        ]
        self.encoder_norm = RMSNorm(cfg.norm_eps)
        self.dropout = Dropout(cfg.dropout)
        if self.task == "seq2seq":
            self.decoder_bias = bias(both_ways=False)
            decoder_layer = layer_class(T5DecoderLayer, self.remat, 7)
            self.decoder_layers = [
                decoder_layer(cfg, self.dtype, name=f"decoder_layer_{n}")
                for n in range(cfg.num_decoder_layers)
            ]
            self.decoder_norm = RMSNorm(cfg.norm_eps)
            if not cfg.tied:
                self.head = Dense(
                    cfg.vocab_size, use_bias=False, wide=True, dtype=self.dtype, kernel_init=init
                )

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
        x_BLD = split_by_rows(self.dropout(self.shared(ids_BL), train))
        counts_by_layer = plan.example_counts(valid_BL.sum(axis=1, dtype=jnp.int32))
        restored_BTD, scores, entered = jnp.zeros_like(x_BLD), [], []
        # Of all rows as long as nothing was removed: one bias for the whole batch.
        bias_BHLL = self.encoder_bias(rows_1L, rows_1L, length)
        for n, layer in enumerate(self.encoder_layers):
            cut = None
            entered.append(positions_BL)
            if plan.rates[n] < 1:
                cut = Cut(counts_by_layer[:, n], plan.sizes[n], plan.strategy)
                restored_BTD = put_back(restored_BTD, x_BLD, positions_BL)
            x_BLD, positions_BL, scores_BL = layer(x_BLD, positions_BL, bias_BHLL, cut, train)
            x_BLD = split_by_rows(x_BLD)
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
        out = Output(None, hidden, None, positions, tuple(scores), tuple(entered))
        return out, encoded_BKD, positions_BL

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
        x_BSD = split_by_rows(self.dropout(self.shared(ids_BS), train))
        keys_BJ = positions_BS
        if caches[0] is not None:
            keys_BJ = jax.lax.dynamic_update_slice_in_dim(
                caches[0].positions, positions_BS, slot, axis=1
            )
        bias_BHSJ = self.decoder_bias(positions_BS, keys_BJ, room)
        written = []
        for layer, memory, cache in zip(self.decoder_layers, memories, caches, strict=True):
            x_BSD, cache = layer(x_BSD, positions_BS, bias_BHSJ, memory, cache, slot, train)
            x_BSD = split_by_rows(x_BSD)
            written.append(cache)
        x_BSD = self.dropout(self.decoder_norm(x_BSD), train)
        if self.cfg.scaled:
            x_BSD = x_BSD * self.cfg.hidden_size**-0.5
        logits_BSV = (self.shared.attend if self.cfg.tied else self.head)(x_BSD)
        return logits_BSV, tuple(written)

    def _finish(self, x_BLD, positions_BL, plan: Plan, train: bool) -> jax.Array:
        x_BLD = self.dropout(self.encoder_norm(x_BLD), train)
        if plan.is_dense:
            return x_BLD
        return jnp.where(positions_BL[:, :, None] < 0, jnp.zeros_like(x_BLD), x_BLD)
