"""Gemma 3, its text model: of every six layers five see a window, and the sixth the whole text.

Both kinds rotate, with a base of their own. RMS norms stand before and after each block, and on the
queries and keys of each head. Embeddings are multiplied by the root of their width.

Source: Gemma Team, arXiv 2503.19786.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from latadj_jax.elimination.cut import Cut, Words
from latadj_jax.errors import ConfigError
from latadj_jax.families.decoders.llama import (
    HEAD_NORMS,
    NAMES,
    Llama,
    LlamaConfig,
    LlamaLayer,
    family,
    heads,
)  # fmt: skip
from latadj_jax.families.decoders.windows import FULL, SLIDING, WindowedConfig, with_layer_types
from latadj_jax.families.hf_config import activation_name, field, flag, size
from latadj_jax.families.rotary import POSITIONS, Rope

# What its class has where a config leaves a key out.
UNSET = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    POSITIONS: 131072,
    "sliding_window": 4096,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gemma3Config(WindowedConfig):
    """Gemma 3 decoder, as Hugging Face's Gemma3TextConfig."""

    activation: str = field("hidden_activation", activation_name, "gelu_pytorch_tanh")
    query_scalar: int = field("query_pre_attn_scalar", size, 256)
    local_rope: Rope = field("rope_local_parameters", lambda rope, key: rope)  # noqa: RUF009
    tied: bool = field("tie_word_embeddings", flag, True)
    mlp_bias: bool = False  # no key of its

    model_type = "gemma3_text"
    head_norms = True

    @property
    def query_scale(self) -> float:
        return (self.head_size / self.query_scalar) ** 0.5

    @property
    def ropes(self) -> tuple[Rope, ...]:
        return tuple(self.local_rope if k == SLIDING else self.rope for k in self.layer_types)

    @property
    def max_positions(self) -> int:
        """Tokens that it can read: a stretched rope is counted in already."""
        return self.trained_positions

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        hf = {**UNSET, **hf}
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if hf.get(key) is not None:
                raise ConfigError(f"{key} {hf[key]!r} is not implemented; only null is.")
        if hf.get("use_bidirectional_attention"):
            raise ConfigError(
                "use_bidirectional_attention is set: an encoder of this family (EmbeddingGemma) is "
                "not implemented."
            )
        every = hf.get("sliding_window_pattern")
        every = 6 if every is None else size(every, "sliding_window_pattern")
        full, local = _rope_parameters(hf)
        hf = with_layer_types(hf, lambda n: (n + 1) % every != 0)
        filled = LlamaConfig.fill({**hf, "rope_scaling": None, "rope_parameters": full})
        local = {POSITIONS: filled[POSITIONS], "rope_parameters": local}
        return {**filled, "rope_local_parameters": Rope.from_hf(local)}

    def to_hf(self) -> dict[str, Any]:
        hf = super().to_hf()
        hf["rope_parameters"] = {FULL: self.rope.to_hf(), SLIDING: self.local_rope.to_hf()}
        for key in ("rope_local_parameters", "rope_local_base_freq"):
            hf.pop(key, None)
        return hf


def _rope_parameters(hf: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the layers that see the whole text, and of the others: by kind, as transformers 5 writes
    them, or by the older keys, of which rope_scaling is for the former alone."""
    by_kind = hf.get("rope_parameters") or {}
    said = [by_kind, hf.get("rope_scaling") or {}]
    said += [by_kind.get(kind) or {} for kind in (FULL, SLIDING) if isinstance(by_kind, Mapping)]
    if not all(isinstance(each, Mapping) for each in said):
        raise ConfigError("config.json: rope_parameters must hold an object for each layer type.")
    _, scaling, full, local = said
    return (
        {"rope_theta": hf["rope_theta"], **full, **scaling},
        {"rope_theta": hf["rope_local_base_freq"], **local},
    )


class Gemma3Layer(LlamaLayer):
    """Llama's, with a norm after each block, too; scales of norms are stored as what is above 1."""

    above = 1.0

    @nn.compact
    def __call__(self, words: Words, cut: Cut | None, cache, slot, train: bool):
        normed_BLD = self.norm("attention_norm")(words.x_BLD)
        out_BKD, words, scores_BL, cache = self.attend(normed_BLD, words, cut, cache, slot, train)
        x_BKD = words.x_BLD + self.norm("attention_out_norm")(out_BKD)
        out_BKD = self.feed_forward(self.norm("ff_norm")(x_BKD))
        x_BKD = x_BKD + self.norm("ff_out_norm")(out_BKD)
        return words.replace(x_BLD=x_BKD), scores_BL, cache


class Gemma3(Llama):
    """Gemma 3 without a head."""

    layer = Gemma3Layer

    def embed(self, ids_BL: jax.Array, positions_BL: jax.Array, train: bool) -> jax.Array:
        # Rounded as the checkpoints were trained: in bfloat16 the root of 640 is 25.25.
        scale = jnp.asarray(np.sqrt(np.float32(self.cfg.hidden_size)), self.dtype)
        return self.word(ids_BL) * scale


FAMILY = family(
    Gemma3Config,
    "Gemma3",
    module=Gemma3,
    heads=heads("Gemma3TextModel", "Gemma3ForCausalLM", "Gemma3TextForSequenceClassification"),
    names={
        **NAMES,
        **HEAD_NORMS,
        "layer_{n}/attention_out_norm": "layers.{n}.post_attention_layernorm",
        "layer_{n}/ff_norm": "layers.{n}.pre_feedforward_layernorm",
        "layer_{n}/ff_out_norm": "layers.{n}.post_feedforward_layernorm",
    },
)
