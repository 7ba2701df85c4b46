"""T5, mT5, umT5: an encoder that removes word-vectors, and a decoder that attends to what remains.

RMS norms before each block, no biases, logits that are not scaled, a relative position bias shared
by all layers of a stack (of umT5 each has its own) and taken at the original positions of what
remains. No position is protected. ByT5 is a T5 to its config.

Source: Raffel et al., arXiv 1910.10683; Xue et al., 2010.11934 and 2105.13626; Chung et al.,
2304.09151.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.plan import Plan
from latadj_jax.families import encoder
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders.t5_config import (
    DECODER_NAMES,
    ENCODER_NAMES,
    MT5Config,
    T5Config,
    UMT5Config,
)
from latadj_jax.families.encoders.t5_layers import T5DecoderLayer, T5EncoderLayer, relative_bias
from latadj_jax.families.family import BASE, EMBEDDING, SEQ2SEQ, Family, Head
from latadj_jax.families.output import Output
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import RMSNorm


class T5(nn.Module):
    """T5's encoder."""

    cfg: T5Config
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_factor)
        self.shared = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        if not cfg.bias_by_layer:
            self.encoder_bias = relative_bias(cfg, both_ways=True)
        layer = layer_class(T5EncoderLayer, self.remat, 4)
        self.encoder_layers = [
            layer(cfg, self.dtype, name=f"encoder_layer_{n}") for n in range(cfg.num_layers)
        ]
        self.encoder_norm = RMSNorm(cfg.norm_eps)
        self.dropout = Dropout(cfg.dropout)

    @staticmethod
    def input_ranges(cfg: T5Config) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        remaining, restored = self.encode(inputs, plan, train)
        return restored() if restore else remaining

    def encode(self, inputs, plan: Plan, train: bool) -> tuple[Output, Callable[[], Output]]:
        """What remains, and a function that restores the rest."""
        x_BLD = self.embed(self.shared, inputs["input_ids"], train)
        words = encoder.words_of(x_BLD, inputs, plan)

        def finish(x_BLD: jax.Array) -> jax.Array:
            return self.dropout(self.encoder_norm(x_BLD), train)

        bias = None if self.cfg.bias_by_layer else self.encoder_bias
        return encoder.run(self.encoder_layers, words, plan, train, finish, bias)

    def embed(self, word: Embed, ids_BL: jax.Array, train: bool) -> jax.Array:
        return split_by_rows(self.dropout(word(ids_BL), train))


class T5Decoder(nn.Module):
    """Logits of a target text [B, S, V], from what remains of the encoder; and writing one."""

    cfg: T5Config
    dtype: jnp.dtype
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        if not cfg.bias_by_layer:
            self.decoder_bias = relative_bias(cfg, both_ways=False)
        layer = layer_class(T5DecoderLayer, self.remat, 8)
        self.decoder_layers = [
            layer(cfg, self.dtype, name=f"decoder_layer_{n}") for n in range(cfg.num_decoder_layers)
        ]
        self.decoder_norm = RMSNorm(cfg.norm_eps)
        init = nn.initializers.normal(cfg.initializer_factor)
        if cfg.decoder_embeds:
            self.decoder_word = Embed(
                cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init
            )
        if not cfg.tied:
            self.head = Dense(
                cfg.vocab_size, use_bias=False, wide=True, dtype=self.dtype, kernel_init=init
            )

    def __call__(self, base: T5, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        remaining, restored = base.encode(inputs, plan, train)
        ids_BS = inputs["decoder_input_ids"]
        positions_1S = jnp.arange(ids_BS.shape[1], dtype=jnp.int32)[None, :]
        logits_BSV, _ = self.decode(
            base, ids_BS, jnp.broadcast_to(positions_1S, ids_BS.shape),
            self.memories(remaining, plan),
            [None] * len(self.decoder_layers), 0, train,
        )  # fmt: skip
        return (restored() if restore else remaining).replace(logits=logits_BSV)

    def continuation(self, base: T5, inputs, plan: Plan, ids_BS: jax.Array, train: bool):
        """Logits of the first target token and after each of `ids`, float32 [B, S + 1, V]."""
        start_B1 = jnp.full((len(ids_BS), 1), self.cfg.decoder_start, jnp.int32)
        ids_BS = jnp.concatenate([start_B1, ids_BS], axis=1)
        return self(base, {**inputs, "decoder_input_ids": ids_BS}, plan, False, train).logits

    def begin(self, base: T5, inputs, plan: Plan, room: int):
        remaining, _ = base.encode(inputs, plan, False)
        memories = self.memories(remaining, plan)
        start_B1 = jnp.full((len(remaining.hidden), 1), self.cfg.decoder_start, jnp.int32)
        caches = [None] * len(self.decoder_layers)
        first_B1 = jnp.zeros_like(start_B1)
        logits_B1V, caches = self.decode(base, start_B1, first_B1, memories, caches, 0)
        return logits_B1V[:, 0], (memories, tuple(cache.with_room(room) for cache in caches))

    def go_on(self, base: T5, plan: Plan, token_B: jax.Array, step: jax.Array, memory):
        memories, caches = memory
        slot = step + 1  # the start token stands at slot 0
        positions_B1 = jnp.broadcast_to(slot, (len(token_B), 1))
        logits_B1V, caches = self.decode(
            base, token_B[:, None], positions_B1, memories, caches, slot
        )
        return logits_B1V[:, 0], (memories, caches)

    def reorder(self, memory, rows_B: jax.Array):
        """Row b becomes what row `rows[b]` was, of the same source: what was encoded stays."""
        memories, caches = memory
        return memories, jax.tree.map(lambda x: x[rows_B], caches)

    def memories(self, remaining: Output, plan: Plan):
        """What each decoder layer attends to, and what is added to its logits there, or None."""
        of_layers = tuple(
            layer.memory(remaining.hidden, remaining.positions) for layer in self.decoder_layers
        )
        return of_layers, jnp.log(remaining.sizes)[:, None, None, :] if plan.merges else None

    def decode(self, base: T5, ids_BS, positions_BS, memories, caches, slot, train: bool = False):
        """Logits [B, S, V] of tokens that are read after those in `caches`, and the caches."""
        word = self.decoder_word if self.cfg.decoder_embeds else base.shared
        x_BSD = base.embed(word, ids_BS, train)
        bias_BHSJ = None
        if not self.cfg.bias_by_layer:
            keys_BJ = positions_BS
            if caches[0] is not None:
                keys_BJ = jax.lax.dynamic_update_slice_in_dim(
                    caches[0].positions, positions_BS, slot, axis=1
                )
            bias_BHSJ = self.decoder_bias(positions_BS, keys_BJ)
        (memories, bias_B11K), written = memories, []
        for layer, memory, cache in zip(self.decoder_layers, memories, caches, strict=True):
            x_BSD, cache = layer(
                x_BSD, positions_BS, bias_BHSJ, memory, bias_B11K, cache, slot, train
            )
            x_BSD = split_by_rows(x_BSD)
            written.append(cache)
        x_BSD = base.dropout(self.decoder_norm(x_BSD), train)
        if self.cfg.scaled:
            x_BSD = x_BSD * self.cfg.hidden_size**-0.5
        return (base.shared.attend if self.cfg.tied else self.head)(x_BSD), tuple(written)


def _family(config: type[T5Config], name: str) -> Family:
    return Family(
        config=config,
        module=T5,
        heads={
            BASE: Head(
                f"{name}EncoderModel", aliases=(f"{name}Model",)
            ),  # which has a decoder, too
            EMBEDDING: embedding_head(f"{name}EncoderModel"),
            SEQ2SEQ: Head(
                f"{name}ForConditionalGeneration",
                T5Decoder,
                DECODER_NAMES,
                inputs=("decoder_input_ids",),
                aliases=("T5WithLMHeadModel",),
            ),
        },
        names=ENCODER_NAMES,
        prefix="",
        left_over=re.compile(r"(lm_head|classification_head|classifier|qa_outputs|v_head)\."),
        buffers=re.compile(
            r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$"
        ),
        optional="decoder.",
        merges=True,
    )


FAMILIES = (_family(T5Config, "T5"), _family(MT5Config, "MT5"), _family(UMT5Config, "UMT5"))
