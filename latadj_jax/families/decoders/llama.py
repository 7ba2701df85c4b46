"""Llama: a decoder with RMS norms before each block, rotary positions and a gated feed-forward.

Attention may be grouped-query. Keys are rotated at their original positions before they are cached:
removal, which is from the prompt, moves nothing. Families that differ in a setting of each layer
(qwen.py, mistral.py, smollm3.py) are a config and a record over this module; gemma3.py has a layer
over this one.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
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
from latadj_jax.families.rotary import Rope, attention_factor, inverse_frequencies, rotate
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import split_heads
from latadj_jax.layers.cached_attention import LayerCache
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import RMSNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(HfConfig):
    """Llama decoder, as Hugging Face's LlamaConfig."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("hidden_size", size)
    num_layers: int = field("num_hidden_layers", size)
    num_heads: int = field("num_attention_heads", size)
    num_kv_heads: int = field("num_key_value_heads", size)
    head_size: int = field("head_dim", size)
    intermediate_size: int = field("intermediate_size", size)
    trained_positions: int = field("max_position_embeddings", size)
    activation: str = field("hidden_act", activation_name, "silu")
    norm_eps: float = field("rms_norm_eps", number, 1e-6)
    rope: Rope = field("rope_parameters", lambda rope, key: rope)  # noqa: RUF009
    attention_bias: bool = field("attention_bias", flag, False)
    mlp_bias: bool = field("mlp_bias", flag, False)
    attention_dropout: float = field("attention_dropout", share, 0.0)
    tied: bool = field("tie_word_embeddings", flag, False)

    model_type = "llama"
    protects = "lasttoken"
    dropouts = ("attention_dropout",)
    ff_matrices = 3  # gate, up and down
    head_norms = False  # whether each head's query and key are normed before they are rotated
    query_scale = 1.0  # what queries are multiplied by, beside 1 / sqrt(C)

    @property
    def ropes(self) -> tuple[Rope | None, ...]:
        """How each layer rotates queries and keys; None: it does not."""
        return (self.rope,) * self.num_layers

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many positions a query of each layer sees, see `LayerCache`; None: all of them."""
        return (None,) * self.num_layers

    def keys_seen(self, layer: int, n_in: int) -> int:
        window = self.windows[layer]
        return n_in if window is None else min(n_in, window)

    @property
    def output_bias(self) -> bool:
        """Whether the projection after the heads has a bias, as those before them may have."""
        return self.attention_bias

    @property
    def max_positions(self) -> int:
        """Tokens that it can read."""
        return self.rope.reach(self.trained_positions)

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_size

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_size

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("is_causal") is False:
            raise ConfigError("is_causal is false: a decoder that looks ahead is not implemented.")
        filled = dict(hf)
        heads = size(hf.get("num_attention_heads"), "num_attention_heads")
        if hf.get("num_key_value_heads") is None:
            filled["num_key_value_heads"] = heads
        if hf.get("head_dim") is None:
            filled["head_dim"] = size(hf.get("hidden_size"), "hidden_size") // heads
        if hf.get("max_position_embeddings") is None:
            filled["max_position_embeddings"] = 2048
        filled["rope_parameters"] = Rope.from_hf(filled)
        return filled

    def fitted(self, tensors: Mapping[str, Any]):
        return fit_head(self, tensors, "model.embed_tokens.weight", "embed_tokens.weight")

    def to_hf(self) -> dict[str, Any]:
        rope = self.rope.to_hf()
        hf = {**super().to_hf(), "rope_parameters": rope}
        for key in ("rope_scaling", *rope):  # beside rope_parameters they could say otherwise
            hf.pop(key, None)
        return hf

    def __post_init__(self):
        super().__post_init__()
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_kv_heads}."
            )
        if self.head_size % 2:
            raise ConfigError(f"head_dim {self.head_size} is odd: rotary positions need pairs.")
        self.rope.check(self.head_size)


class LlamaLayer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: LlamaConfig
    dtype: jnp.dtype
    rope: Rope | None = None
    window: int | None = None

    above = 0.0  # see RMSNorm

    @nn.compact
    def __call__(self, words: Words, cut: Cut | None, cache, slot, train: bool):
        normed_BLD = self.norm("attention_norm")(words.x_BLD)
        out_BKD, words, scores_BL, cache = self.attend(normed_BLD, words, cut, cache, slot, train)
        x_BKD = words.x_BLD + out_BKD
        x_BKD = x_BKD + self.feed_forward(self.norm("ff_norm")(x_BKD))
        return words.replace(x_BLD=x_BKD), scores_BL, cache

    # What follows is called inside of `__call__`, whose submodules it makes.

    def norm(self, name: str) -> nn.Module:
        return RMSNorm(self.cfg.norm_eps, self.above, name=name)

    def dense(self, width: int, name: str, bias: bool) -> Dense:
        init = nn.initializers.normal(self.cfg.initializer_range)
        return Dense(width, bias, dtype=self.dtype, kernel_init=init, name=name)

    def attend(self, normed_BLD, words: Words, cut: Cut | None, cache, slot, train: bool):
        """Attention with the cut inside: (its output [B, K, D], words kept, scores, cache)."""
        cfg, positions_BL = self.cfg, words.positions_BL
        key, value = (
            self.dense(cfg.kv_size, name, cfg.attention_bias) for name in ("key", "value")
        )
        query = self.dense(cfg.query_size, "query", cfg.attention_bias)
        norm_of = dict.fromkeys(("query_norm", "key_norm"), lambda x_BLHC: x_BLHC)
        if cfg.head_norms:
            norm_of = {name: self.norm(name) for name in norm_of}
        turn = self.turning(positions_BL, cache)

        k_BLGC = norm_of["key_norm"](split_heads(key(normed_BLD), cfg.num_kv_heads))
        k_BGLC = turn(k_BLGC, positions_BL).swapaxes(1, 2)
        v_BGLC = split_heads(value(normed_BLD), cfg.num_kv_heads).swapaxes(1, 2)
        new = LayerCache(k_BGLC, v_BGLC, positions_BL, self.window)

        def queries(normed_BLD, positions_BL):
            q_BLHC = norm_of["query_norm"](split_heads(query(normed_BLD), cfg.num_heads))
            q_BLHC = q_BLHC if cfg.query_scale == 1 else q_BLHC * cfg.query_scale
            return turn(q_BLHC, positions_BL)

        dropout = partial(Dropout(cfg.attention_dropout), train=train)
        heads_BKE, words, scores_BL, cache = cut_and_attend(
            queries, normed_BLD, words, new, cache, slot, cut,
            lambda: self.make_rng("eliminate"), dropout,
        )  # fmt: skip
        out = self.dense(cfg.hidden_size, "attention_out", cfg.output_bias)
        return out(heads_BKE), words, scores_BL, cache

    def turning(self, positions_BL: jax.Array, cache: LayerCache | None) -> Callable:
        """A function that rotates heads [B, L, H, C] at positions [B, L]."""
        if self.rope is None:
            return lambda x_BLHC, positions_BL: x_BLHC
        lengths_BL = positions_BL + 1  # of the text up to each token that is read on
        if cache is None:  # of the whole prompt, whose last token is never removed
            lengths_BL = positions_BL.max(axis=1, keepdims=True) + 1
        frequencies = inverse_frequencies(self.rope, self.cfg.head_size, lengths_BL)
        return partial(rotate, frequencies=frequencies, factor=attention_factor(self.rope))

    def feed_forward(self, normed_BKD: jax.Array) -> jax.Array:
        cfg = self.cfg
        gate_BKF = self.dense(cfg.intermediate_size, "gate", cfg.mlp_bias)(normed_BKD)
        up_BKF = self.dense(cfg.intermediate_size, "up", cfg.mlp_bias)(normed_BKD)
        gated_BKF = ACTIVATIONS[cfg.activation](gate_BKF) * up_BKF
        return self.dense(cfg.hidden_size, "down", cfg.mlp_bias)(gated_BKF)


class Llama(nn.Module):
    """Llama without a head."""

    cfg: LlamaConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    layer = LlamaLayer

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        self.word = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=init)
        layer = layer_class(self.layer, self.remat, 5)
        self.layers = [
            layer(cfg, self.dtype, rope, window, name=f"layer_{n}")
            for n, (rope, window) in enumerate(zip(cfg.ropes, cfg.windows, strict=True))
        ]
        self.final_norm = RMSNorm(cfg.norm_eps, self.layer.above)

    def embed(self, ids_BL: jax.Array, positions_BL: jax.Array, train: bool) -> jax.Array:
        return self.word(ids_BL)

    @staticmethod
    def input_ranges(cfg: LlamaConfig) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        return read_prompt(self, inputs, plan, restore, train)[0]


def heads(base: str, lm: str, sequence: str, aliases: tuple[str, ...] = ()) -> dict[str, Head]:
    """The heads of a decoder, by Hugging Face's classes; `aliases` are those of `lm`."""
    return {
        BASE: Head(base),
        EMBEDDING: embedding_head(base),
        CAUSAL_LM: Head(lm, LanguageModelHead, {"head": "lm_head"}, aliases=aliases),
        SEQUENCE: Head(sequence, LastTokenClassifier, {"classifier": "score"}),
    }


def family(config: type[LlamaConfig], name: str, **options) -> Family:
    """The record of a family whose classes are NameModel, NameForCausalLM and so on.

    Args:
      options: in place of what is Llama's.
    """
    return Family(**{
        "config": config,
        "module": Llama,
        "heads": heads(f"{name}Model", f"{name}ForCausalLM", f"{name}ForSequenceClassification"),
        "names": NAMES,
        "prefix": "model.",
        "left_over": re.compile(r"(lm_head|score|qa_outputs|v_head)\."),
        "buffers": re.compile(r".*rotary_emb\.inv_freq$"),
        "may_be_new": ("classifier", "head"),
        "causal": True,
        **options,
    })  # fmt: skip


NAMES = {
    "word": "embed_tokens",
    "layer_{n}/attention_norm": "layers.{n}.input_layernorm",
    "layer_{n}/query": "layers.{n}.self_attn.q_proj",
    "layer_{n}/key": "layers.{n}.self_attn.k_proj",
    "layer_{n}/value": "layers.{n}.self_attn.v_proj",
    "layer_{n}/attention_out": "layers.{n}.self_attn.o_proj",
    "layer_{n}/ff_norm": "layers.{n}.post_attention_layernorm",
    "layer_{n}/gate": "layers.{n}.mlp.gate_proj",
    "layer_{n}/up": "layers.{n}.mlp.up_proj",
    "layer_{n}/down": "layers.{n}.mlp.down_proj",
    "final_norm": "norm",
}
HEAD_NORMS = {  # of a config with `head_norms`
    "layer_{n}/query_norm": "layers.{n}.self_attn.q_norm",
    "layer_{n}/key_norm": "layers.{n}.self_attn.k_norm",
}

FAMILY = family(
    LlamaConfig,
    "Llama",
    heads=heads(
        "LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification", ("LLaMAForCausalLM",)
    ),
)
