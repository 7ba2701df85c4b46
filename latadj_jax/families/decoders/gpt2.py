"""GPT-2: a decoder whose hidden states are normed before each block (pre-norm).

Positions are learned and added once. Word-vectors are removed from the prompt.
"""

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.elimination.cut import Cut, Words
from latadj_jax.elimination.plan import Plan
from latadj_jax.errors import ConfigError
from latadj_jax.families.causal import LanguageModelHead, LastTokenClassifier, read_prompt
from latadj_jax.families.causal_attention import cut_and_attend
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.family import BASE, CAUSAL_LM, EMBEDDING, SEQUENCE, Family, Head
from latadj_jax.families.hf_config import (
    HfConfig,
    activation_name,
    field,
    fit_head,
    flag,
    number,
    share,
    size,
)  # fmt: skip
from latadj_jax.families.output import Output
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import split_heads
from latadj_jax.layers.cached_attention import LayerCache
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(HfConfig):
    """GPT-2 decoder, as Hugging Face's GPT2Config."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("n_embd", size)
    num_layers: int = field("n_layer", size)
    num_heads: int = field("n_head", size)
    intermediate_size: int = field("n_inner", size)
    max_positions: int = field("n_positions", size, 1024)
    activation: str = field("activation_function", activation_name, "gelu_new")
    norm_eps: float = field("layer_norm_epsilon", number, 1e-5)
    hidden_dropout: float = field("resid_pdrop", share, 0.1)
    attention_dropout: float = field("attn_pdrop", share, 0.1)
    embedding_dropout: float = field("embd_pdrop", share, 0.1)
    tied: bool = field("tie_word_embeddings", flag, True)
    scaled: bool = field("scale_attn_weights", flag, True)  # attention logits, by 1 / sqrt(C)
    scaled_by_layer: bool = field("scale_attn_by_inverse_layer_idx", flag, False)

    model_type = "gpt2"
    protects = "lasttoken"
    dropouts = ("hidden_dropout", "attention_dropout", "embedding_dropout")

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("add_cross_attention"):
            raise ConfigError("add_cross_attention is set: it is not implemented.")
        if hf.get("n_inner") is None:
            return {**hf, "n_inner": 4 * size(hf.get("n_embd"), "n_embd")}
        return dict(hf)

    def fitted(self, tensors: Mapping[str, Any]):
        return fit_head(self, tensors, "transformer.wte.weight", "wte.weight")


class GPT2Layer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: GPT2Config
    dtype: jnp.dtype
    number: int = 0  # of the layer, from 0

    @nn.compact
    def __call__(self, words: Words, cut: Cut | None, cache, slot, train: bool):
        cfg, positions_BL = self.cfg, words.positions_BL
        init = nn.initializers.normal(cfg.initializer_range)
        # What is added to the residual stream, twice in every layer, starts smaller.
        added_init = nn.initializers.normal(cfg.initializer_range / (2 * cfg.num_layers) ** 0.5)

        def dense(width, name, init=init):
            return Dense(width, dtype=self.dtype, kernel_init=init, name=name)

        normed_BLD = LayerNorm(cfg.norm_eps, name="attention_norm")(words.x_BLD)
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

        dropout = partial(Dropout(cfg.attention_dropout), train=train)
        heads_BKD, words, scores_BL, cache = cut_and_attend(
            queries, normed_BLD, words, new, cache, slot, cut,
            lambda: self.make_rng("eliminate"), dropout,
        )  # fmt: skip
        attended_BKD = dense(cfg.hidden_size, "attention_out", added_init)(heads_BKD)
        x_BKD = words.x_BLD + Dropout(cfg.hidden_dropout)(attended_BKD, train)

        normed_BKD = LayerNorm(cfg.norm_eps, name="ff_norm")(x_BKD)
        wide_BKF = ACTIVATIONS[cfg.activation](dense(cfg.intermediate_size, "ff_in")(normed_BKD))
        narrow_BKD = dense(cfg.hidden_size, "ff_out", added_init)(wide_BKF)
        x_BKD = x_BKD + Dropout(cfg.hidden_dropout)(narrow_BKD, train)
        return words.replace(x_BLD=x_BKD), scores_BL, cache


class GPT2(nn.Module):
    """GPT-2 without a head."""

    cfg: GPT2Config
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        self.word = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        self.position = Embed(cfg.max_positions, cfg.hidden_size, self.dtype, embedding_init=init)
        self.embedding_dropout = Dropout(cfg.embedding_dropout)
        layer = layer_class(GPT2Layer, self.remat, 5)
        every = range(cfg.num_layers)
        self.layers = [layer(cfg, self.dtype, n, name=f"layer_{n}") for n in every]
        self.final_norm = LayerNorm(cfg.norm_eps)

    def embed(self, ids_BL: jax.Array, positions_BL: jax.Array, train: bool) -> jax.Array:
        # Padding may lie past the last position, where there would be no number.
        inside_BL = jnp.minimum(positions_BL, self.cfg.max_positions - 1)
        return self.embedding_dropout(self.word(ids_BL) + self.position(inside_BL), train)

    @staticmethod
    def input_ranges(cfg: GPT2Config) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        return read_prompt(self, inputs, plan, restore, train)[0]


FAMILY = Family(
    config=GPT2Config,
    module=GPT2,
    heads={
        BASE: Head("GPT2Model"),
        EMBEDDING: embedding_head("GPT2Model"),
        CAUSAL_LM: Head("GPT2LMHeadModel", LanguageModelHead, {"head": "lm_head"}),
        SEQUENCE: Head(
            "GPT2ForSequenceClassification", LastTokenClassifier, {"classifier": "score"}
        ),
    },
    names={
        "word": "wte",
        "position": "wpe",
        "layer_{n}/attention_norm": "h.{n}.ln_1",
        "layer_{n}/query": "h.{n}.attn.c_attn.query",
        "layer_{n}/key": "h.{n}.attn.c_attn.key",
        "layer_{n}/value": "h.{n}.attn.c_attn.value",
        "layer_{n}/attention_out": "h.{n}.attn.c_proj",
        "layer_{n}/ff_norm": "h.{n}.ln_2",
        "layer_{n}/ff_in": "h.{n}.mlp.c_fc",
        "layer_{n}/ff_out": "h.{n}.mlp.c_proj",
        "final_norm": "ln_f",
    },
    prefix="transformer.",
    left_over=re.compile(r"(lm_head|score|classifier|qa_outputs|multiple_choice_head|v_head)\."),
    buffers=re.compile(r"h\.\d+\.attn\.(masked_)?bias$"),
    may_be_new=("classifier", "head"),
    # GPT-2's Conv1D keeps its kernels [in, out], as we do; three of them are one tensor.
    conv1d=("query", "key", "value", "attention_out", "ff_in", "ff_out"),
    fused={"attn.c_attn": ("query", "key", "value")},
    causal=True,
)
