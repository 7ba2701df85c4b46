"""T5's config, and the names of its weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from latadj_jax.errors import ConfigError
from latadj_jax.families.hf_config import (
    HfConfig,
    activation_name,
    field,
    flag,
    number,
    share,
    size,
)  # fmt: skip

ENCODER_NAMES = {
    "shared": "shared",
    "encoder_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "encoder_layer_{n}/relative_bias": (
        "encoder.block.{n}.layer.0.SelfAttention.relative_attention_bias"
    ),
    "encoder_layer_{n}/attention_norm": "encoder.block.{n}.layer.0.layer_norm",
    "encoder_layer_{n}/query": "encoder.block.{n}.layer.0.SelfAttention.q",
    "encoder_layer_{n}/key": "encoder.block.{n}.layer.0.SelfAttention.k",
    "encoder_layer_{n}/value": "encoder.block.{n}.layer.0.SelfAttention.v",
    "encoder_layer_{n}/attention_out": "encoder.block.{n}.layer.0.SelfAttention.o",
    "encoder_layer_{n}/ff/norm": "encoder.block.{n}.layer.1.layer_norm",
    "encoder_layer_{n}/ff/wide": "encoder.block.{n}.layer.1.DenseReluDense.wi",
    "encoder_layer_{n}/ff/gate": "encoder.block.{n}.layer.1.DenseReluDense.wi_0",
    "encoder_layer_{n}/ff/up": "encoder.block.{n}.layer.1.DenseReluDense.wi_1",
    "encoder_layer_{n}/ff/down": "encoder.block.{n}.layer.1.DenseReluDense.wo",
    "encoder_norm": "encoder.final_layer_norm",
}
DECODER_NAMES = {
    "decoder_word": "decoder.embed_tokens",
    "decoder_bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "decoder_layer_{n}/relative_bias": (
        "decoder.block.{n}.layer.0.SelfAttention.relative_attention_bias"
    ),
    "decoder_layer_{n}/attention_norm": "decoder.block.{n}.layer.0.layer_norm",
    "decoder_layer_{n}/query": "decoder.block.{n}.layer.0.SelfAttention.q",
    "decoder_layer_{n}/key": "decoder.block.{n}.layer.0.SelfAttention.k",
    "decoder_layer_{n}/value": "decoder.block.{n}.layer.0.SelfAttention.v",
    "decoder_layer_{n}/attention_out": "decoder.block.{n}.layer.0.SelfAttention.o",
    "decoder_layer_{n}/cross_norm": "decoder.block.{n}.layer.1.layer_norm",
    "decoder_layer_{n}/cross_query": "decoder.block.{n}.layer.1.EncDecAttention.q",
    "decoder_layer_{n}/cross_key": "decoder.block.{n}.layer.1.EncDecAttention.k",
    "decoder_layer_{n}/cross_value": "decoder.block.{n}.layer.1.EncDecAttention.v",
    "decoder_layer_{n}/cross_out": "decoder.block.{n}.layer.1.EncDecAttention.o",
    "decoder_layer_{n}/ff/norm": "decoder.block.{n}.layer.2.layer_norm",
    "decoder_layer_{n}/ff/wide": "decoder.block.{n}.layer.2.DenseReluDense.wi",
    "decoder_layer_{n}/ff/gate": "decoder.block.{n}.layer.2.DenseReluDense.wi_0",
    "decoder_layer_{n}/ff/up": "decoder.block.{n}.layer.2.DenseReluDense.wi_1",
    "decoder_layer_{n}/ff/down": "decoder.block.{n}.layer.2.DenseReluDense.wo",
    "decoder_norm": "decoder.final_layer_norm",
    "head": "lm_head",
}


def optional_id(value: Any, key: str) -> int | None:
    return None if value is None else int(number(value, key))


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config(HfConfig):
    """T5 encoder and decoder, as Hugging Face's T5Config; layers are counted in the encoder."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("d_model", size)
    num_layers: int = field("num_layers", size)
    num_decoder_layers: int = field("num_decoder_layers", size)
    num_heads: int = field("num_heads", size)
    head_size: int = field("d_kv", size)
    intermediate_size: int = field("d_ff", size)
    num_buckets: int = field("relative_attention_num_buckets", size, 32)
    max_distance: int = field("relative_attention_max_distance", size, 128)
    activation: str = field("dense_act_fn", activation_name, "relu")
    gated: bool = field("is_gated_act", flag, False)
    norm_eps: float = field("layer_norm_epsilon", number, 1e-6)
    dropout: float = field("dropout_rate", share, 0.1)
    initializer_factor: float = field("initializer_factor", number, 1.0)
    tied: bool = field("tie_word_embeddings", flag, True)  # the head is the encoder's embedding
    decoder_embeds: bool = False  # whether the decoder has an embedding of its own
    scaled: bool = field("scale_decoder_outputs", flag, True)  # v1.0, before a tied head
    decoder_start: int | None = field("decoder_start_token_id", optional_id, None)

    model_type = "t5"
    bias_by_layer = False  # whether each layer has a relative position bias of its own
    dropouts = ("dropout",)
    max_positions = 2**31 - 1  # distances have no limit

    @property
    def ff_matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_size

    @property
    def kv_size(self) -> int:
        return self.query_size

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        """Values that config.json names win over what follows from others, as in transformers.

        T5 v1.1's "gated-gelu" is the tanh approximation. A v1.1 said tie_word_embeddings: false,
        and does not scale its outputs; whether a checkpoint's head is tied, its tensors say.
        """
        name = hf.get("feed_forward_proj")
        name = "relu" if name is None else str(name)
        activation = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
        activation_name(activation, "feed_forward_proj")
        follows = {
            "dense_act_fn": activation,
            "is_gated_act": name.startswith("gated-"),
            "scale_decoder_outputs": hf.get("tie_word_embeddings") is not False,
            "num_decoder_layers": hf.get("num_layers"),
        }
        filled = {**follows, **{key: value for key, value in hf.items() if value is not None}}
        if hf.get("scale_decoder_outputs", True) is None:  # the one null that means false
            filled["scale_decoder_outputs"] = False
        return filled

    def fitted(self, tensors: Mapping[str, Any]):
        """What the encoder, the decoder and the head look up, each under a name of its own.

        All three are "shared.weight" where it has no other, and that is the first of theirs where
        it is missing, as in transformers 5 (MADLAD-400 has three, and none is called shared).
        """
        names = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
                 "lm_head.weight")  # fmt: skip
        found = [tensors[name] for name in names if name in tensors]
        if not found:
            return self, tensors
        encoder, decoder, head = (tensors.get(name, found[0]) for name in names[1:])
        own = {"shared.weight": encoder}
        if decoder_embeds := not np.array_equal(decoder, encoder):
            own["decoder.embed_tokens.weight"] = decoder
        if not (tied := np.array_equal(head, encoder)):
            own["lm_head.weight"] = head
        rest = {name: tensor for name, tensor in tensors.items() if name not in names}
        return self.replace(tied=tied, decoder_embeds=decoder_embeds), {**rest, **own}

    def __post_init__(self):  # heads may be of any width
        if self.decoder_start is not None and self.decoder_start >= self.vocab_size:
            raise ConfigError(
                f"decoder_start_token_id {self.decoder_start} is outside of the vocabulary: "
                f"0..{self.vocab_size - 1}."
            )
        if self.num_buckets % 4 or self.max_distance <= self.num_buckets // 2:
            raise ConfigError(
                f"relative_attention_num_buckets {self.num_buckets} must be a multiple of 4 and "
                f"less than twice relative_attention_max_distance {self.max_distance}."
            )


class MT5Config(T5Config):
    """mT5 encoder and decoder, as Hugging Face's MT5Config: T5 v1.1, never scaled."""

    model_type = "mt5"

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        return T5Config.fill(
            {"feed_forward_proj": "gated-gelu", **hf, "scale_decoder_outputs": False}
        )


class UMT5Config(T5Config):
    """umT5 encoder and decoder, as Hugging Face's UMT5Config: T5 v1.1 with a bias in each layer."""

    model_type = "umt5"
    bias_by_layer = True

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        return T5Config.fill({"feed_forward_proj": "gated-gelu", **hf})
