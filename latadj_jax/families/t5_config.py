"""T5's config, and the names of its weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from latadj_jax.errors import ConfigError
from latadj_jax.families.hf_config import (
    HfConfig,
    activation_name,
    field,
    flag,
    has_own_head,
    number,
    share,
    size,
)  # fmt: skip

ENCODER_NAMES = {
    "shared": "shared",
    "encoder_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
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
    "decoder_bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
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


def feed_forward_name(value: Any, key: str) -> str:
    name = str(value)
    activation_name(name.removeprefix("gated-"), key)
    return name


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
    feed_forward: str = field("feed_forward_proj", feed_forward_name, "relu")
    norm_eps: float = field("layer_norm_epsilon", number, 1e-6)
    dropout: float = field("dropout_rate", share, 0.1)
    initializer_factor: float = field("initializer_factor", number, 1.0)
    tied: bool = field("tie_word_embeddings", flag, True)
    scaled: bool = field("scale_decoder_outputs", flag, True)  # v1.0, before a tied head
    decoder_start: int | None = field("decoder_start_token_id", optional_id, None)

    model_type = "t5"
    dropouts = ("dropout",)
    max_positions = 2**31 - 1  # distances have no limit

    @property
    def gated(self) -> bool:
        return self.feed_forward.startswith("gated-")

    @property
    def activation(self) -> str:
        """Hugging Face's reading: T5 v1.1's "gated-gelu" is the tanh approximation."""
        name = self.feed_forward.removeprefix("gated-")
        return "gelu_new" if self.feed_forward == "gated-gelu" else name

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
        filled = {"scale_decoder_outputs": hf.get("tie_word_embeddings", True), **hf}
        if hf.get("num_decoder_layers") is None:
            filled["num_decoder_layers"] = hf.get("num_layers")
        return filled

    def fitted(self, tensors: Mapping[str, Any]) -> "T5Config":
        """transformers 5 says tie_word_embeddings for every T5: whether there is a head decides."""
        return self.replace(tied=not has_own_head(tensors, "shared.weight"))

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
