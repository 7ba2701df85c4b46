"""GPT-2 decoder with elimination of word-vectors from the prompt, and its heads.

Hidden states are normed before each block (pre-norm); positions are learned and added once.
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
from latadj_jax.families.config import GPT2Config
from latadj_jax.families.output import Output
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import split_heads
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm


class GPT2Layer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: GPT2Config
    dtype: jnp.dtype
    number: int = 0  # of the layer, from 0

    @nn.compact
    def __call__(
        self, x_BLD, positions_BL, cut: Cut | None = None, cache=None, slot=0, train=False
    ):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        # What is added to the residual stream, twice in every layer, starts smaller.
        added_init = nn.initializers.normal(cfg.initializer_range / (2 * cfg.num_layers) ** 0.5)

        def dense(width, name, init=init):
            return Dense(width, dtype=self.dtype, kernel_init=init, name=name)

        normed_BLD = LayerNorm(cfg.norm_eps, name="attention_norm")(x_BLD)
        k_BLHC, v_BLHC = (
            split_heads(dense(cfg.hidden_size, name)(normed_BLD), cfg.num_heads)
            for name in ("key", "value")
        )
        new = LayerCache(k_BLHC.swapaxes(1, 2), v_BLHC.swapaxes(1, 2), positions_BL)
        query = dense(cfg.hidden_size, "query")

        def queries(normed_BLD, positions_BL):
            q_BLHC = split_heads(query(normed_BLD), cfg.num_heads)
            if not cfg.scaled:
                q_BLHC = q_BLHC * q_BLHC.shape[-1] ** 0.5  # the attention divides by as much
            return q_BLHC / (self.number + 1) if cfg.scaled_by_layer else q_BLHC

        key = self.make_rng("eliminate") if cut and cut.strategy == "random" else None
        dropout = partial(Dropout(cfg.attention_dropout), train=train)
        heads_BKD, x_BLD, positions_BL, scores_BL, cache = cut_and_attend(
            queries, normed_BLD, x_BLD, new, cache, slot, cut, key, dropout
        )
        attended_BKD = dense(cfg.hidden_size, "attention_out", added_init)(heads_BKD)
        x_BKD = x_BLD + Dropout(cfg.hidden_dropout)(attended_BKD, train)

        normed_BKD = LayerNorm(cfg.norm_eps, name="ff_norm")(x_BKD)
        wide_BKF = ACTIVATIONS[cfg.activation](dense(cfg.intermediate_size, "ff_in")(normed_BKD))
        narrow_BKD = dense(cfg.hidden_size, "ff_out", added_init)(wide_BKF)
        x_BKD = x_BKD + Dropout(cfg.hidden_dropout)(narrow_BKD, train)
        return x_BKD, positions_BL, scores_BL, cache


class GPT2(nn.Module):
    """GPT-2 for one task: "features", "lm", "classification" or "regression"."""

    cfg: GPT2Config
    task: str
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    protected = 1  # the last token of the prompt
    strategies = CAUSAL_STRATEGIES

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        self.word = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        self.position = Embed(cfg.max_positions, cfg.hidden_size, self.dtype, embedding_init=init)
        self.embedding_dropout = Dropout(cfg.embedding_dropout)
        layer = layer_class(GPT2Layer, self.remat, 6)
        every = range(cfg.num_layers)
        self.layers = [layer(cfg, self.dtype, n, name=f"layer_{n}") for n in every]
        self.final_norm = LayerNorm(cfg.norm_eps)
        logits = partial(Dense, use_bias=False, wide=True, dtype=self.dtype, kernel_init=init)
        if self.task == "lm" and not cfg.tied:
            self.head = logits(cfg.vocab_size)
        if self.task in ("classification", "regression"):
            self.classifier = logits(len(cfg.labels))

    def embed(self, ids_BL: jax.Array, positions_BL: jax.Array, train: bool) -> jax.Array:
        # Padding may lie past the last position, where there would be no number.
        inside_BL = jnp.minimum(positions_BL, self.cfg.max_positions - 1)
        return self.embedding_dropout(self.word(ids_BL) + self.position(inside_BL), train)

    @staticmethod
    def input_ranges(cfg: GPT2Config) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        return causal.run(self, inputs, plan, restore, train)

    continuation = causal.continuation
    begin = causal.begin
    go_on = causal.go_on
    reorder = causal.reorder
