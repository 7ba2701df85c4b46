"""Llama decoder with elimination of word-vectors from the prompt.

RMS norms before each block, rotary positions, a gated feed-forward (SwiGLU), grouped-query
attention. Keys are rotated at their original positions before they are cached: removal moves
nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.elimination.eliminate import Cut
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.strategies import CAUSAL_STRATEGIES
from latadj_jax.families import causal
from latadj_jax.families.causal_attention import LayerCache, cut_and_attend
from latadj_jax.families.config import LlamaConfig
from latadj_jax.families.output import Output
from latadj_jax.families.rotary import inverse_frequencies, rotate
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import split_heads
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import RMSNorm


class LlamaLayer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: LlamaConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x_BLD, positions_BL, cut: Cut | None = None, cache=None, slot=0, train=False
    ):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)

        def dense(width, name, bias):
            return Dense(width, bias, dtype=self.dtype, kernel_init=init, name=name)

        normed_BLD = RMSNorm(cfg.norm_eps, name="attention_norm")(x_BLD)
        k_BLGC, v_BLGC = (
            split_heads(dense(cfg.kv_size, name, cfg.attention_bias)(normed_BLD), cfg.num_kv_heads)
            for name in ("key", "value")
        )
        frequencies = inverse_frequencies(cfg.rope, cfg.head_size)
        k_BLGC = rotate(k_BLGC, positions_BL, frequencies)
        new = LayerCache(k_BLGC.swapaxes(1, 2), v_BLGC.swapaxes(1, 2), positions_BL)
        query = dense(cfg.query_size, "query", cfg.attention_bias)

        def queries(normed_BLD, positions_BL):
            q_BLHC = split_heads(query(normed_BLD), cfg.num_heads)
            return rotate(q_BLHC, positions_BL, frequencies)

        key = self.make_rng("eliminate") if cut and cut.strategy == "random" else None
        dropout = partial(Dropout(cfg.attention_dropout), train=train)
        heads_BKE, x_BLD, positions_BL, scores_BL, cache = cut_and_attend(
            queries, normed_BLD, x_BLD, new, cache, slot, cut, key, dropout
        )
        x_BKD = x_BLD + dense(cfg.hidden_size, "attention_out", cfg.attention_bias)(heads_BKE)

        normed_BKD = RMSNorm(cfg.norm_eps, name="ff_norm")(x_BKD)
        gate_BKF = dense(cfg.intermediate_size, "gate", cfg.mlp_bias)(normed_BKD)
        up_BKF = dense(cfg.intermediate_size, "up", cfg.mlp_bias)(normed_BKD)
        gated_BKF = ACTIVATIONS[cfg.activation](gate_BKF) * up_BKF
        x_BKD = x_BKD + dense(cfg.hidden_size, "down", cfg.mlp_bias)(gated_BKF)
        return x_BKD, positions_BL, scores_BL, cache


class Llama(nn.Module):
    """Llama for one task: "features", "lm", "classification" or "regression"."""

    cfg: LlamaConfig
    task: str
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    protected = 1  # the last token of the prompt
    strategies = CAUSAL_STRATEGIES

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        self.word = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        layer = layer_class(LlamaLayer, self.remat, 6)
        self.layers = [layer(cfg, self.dtype, name=f"layer_{n}") for n in range(cfg.num_layers)]
        self.final_norm = RMSNorm(cfg.norm_eps)
        logits = partial(Dense, use_bias=False, wide=True, dtype=self.dtype, kernel_init=init)
        if self.task == "lm" and not cfg.tied:
            self.head = logits(cfg.vocab_size)
        if self.task in ("classification", "regression"):
            self.classifier = logits(len(cfg.labels))

    def embed(self, ids_BL: jax.Array, positions_BL: jax.Array, train: bool) -> jax.Array:
        return self.word(ids_BL)

    @staticmethod
    def input_ranges(cfg: LlamaConfig) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        return causal.run(self, inputs, plan, restore, train)

    continuation = causal.continuation
    begin = causal.begin
    go_on = causal.go_on
    reorder = causal.reorder
