"""The families' frozen configs."""

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
)
from latadj_jax.families.rotary import Rope


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(HfConfig):
    """BERT encoder, as Hugging Face's BertConfig."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("hidden_size", size)
    num_layers: int = field("num_hidden_layers", size)
    num_heads: int = field("num_attention_heads", size)
    intermediate_size: int = field("intermediate_size", size)
    max_positions: int = field("max_position_embeddings", size)
    type_vocab_size: int = field("type_vocab_size", size, 2)
    activation: str = field("hidden_act", activation_name, "gelu")
    norm_eps: float = field("layer_norm_eps", number, 1e-12)
    hidden_dropout: float = field("hidden_dropout_prob", share, 0.1)
    attention_dropout: float = field("attention_probs_dropout_prob", share, 0.1)
    head_dropout: float = field("classifier_dropout", share, 0.1)

    model_type = "bert"
    dropouts = ("hidden_dropout", "attention_dropout", "head_dropout")

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"position_embedding_type {hf['position_embedding_type']!r} is not implemented; "
                f"only 'absolute' is."
            )
        if hf.get("is_decoder"):
            raise ConfigError("is_decoder is set: a BERT decoder is not implemented.")
        if hf.get("classifier_dropout") is None:  # as the hidden states
            return {**hf, "classifier_dropout": hf.get("hidden_dropout_prob", 0.1)}
        return dict(hf)


def has_own_head(tensors: Mapping[str, Any], *embeddings: str) -> bool:
    """Whether a checkpoint holds a head that is not its embedding (the first of these names).

    transformers 5 then uses it, whatever tie_word_embeddings says.
    """
    head = tensors.get("lm_head.weight")
    shared = next((tensors[name] for name in embeddings if name in tensors), None)
    return head is not None and not np.array_equal(head, shared)


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
    dropouts = ("hidden_dropout", "attention_dropout", "embedding_dropout")

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("add_cross_attention"):
            raise ConfigError("add_cross_attention is set: it is not implemented.")
        if hf.get("n_inner") is None:
            return {**hf, "n_inner": 4 * size(hf.get("n_embd"), "n_embd")}
        return dict(hf)

    def fitted(self, tensors: Mapping[str, Any]) -> "GPT2Config":
        own = has_own_head(tensors, "transformer.wte.weight", "wte.weight")
        return self.replace(tied=self.tied and not own)


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
    max_positions: int = field("max_position_embeddings", size, 2048)
    activation: str = field("hidden_act", activation_name, "silu")
    norm_eps: float = field("rms_norm_eps", number, 1e-6)
    rope: Rope = field("rope_parameters", Rope.from_hf)  # noqa: RUF009
    attention_bias: bool = field("attention_bias", flag, False)
    mlp_bias: bool = field("mlp_bias", flag, False)
    attention_dropout: float = field("attention_dropout", share, 0.0)
    tied: bool = field("tie_word_embeddings", flag, False)

    model_type = "llama"
    dropouts = ("attention_dropout",)
    ff_matrices = 3  # gate, up and down

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_size

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_size

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(hf)
        heads = size(hf.get("num_attention_heads"), "num_attention_heads")
        if hf.get("num_key_value_heads") is None:
            filled["num_key_value_heads"] = heads
        if hf.get("head_dim") is None:
            filled["head_dim"] = size(hf.get("hidden_size"), "hidden_size") // heads
        # transformers 4 had rope_theta and rope_scaling in place of rope_parameters.
        rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
        if isinstance(rope, Mapping):
            rope = {"rope_theta": hf.get("rope_theta", 10000.0), **rope}
        filled["rope_parameters"] = rope
        return filled

    def fitted(self, tensors: Mapping[str, Any]) -> "LlamaConfig":
        own = has_own_head(tensors, "model.embed_tokens.weight", "embed_tokens.weight")
        return self.replace(tied=self.tied and not own)

    def to_hf(self) -> dict[str, Any]:
        hf = {**super().to_hf(), "rope_parameters": self.rope.to_hf()}
        return {key: v for key, v in hf.items() if key not in ("rope_theta", "rope_scaling")}

    def __post_init__(self):
        super().__post_init__()
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_kv_heads}."
            )
        if self.head_size % 2:
            raise ConfigError(f"head_dim {self.head_size} is odd: rotary positions need pairs.")


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


# Tasks, and the Hugging Face class of each.
ARCHITECTURES = {
    "bert": {
        "features": "BertModel",
        "classification": "BertForSequenceClassification",
        "regression": "BertForSequenceClassification",
    },
    "gpt2": {
        "features": "GPT2Model",
        "lm": "GPT2LMHeadModel",
        "classification": "GPT2ForSequenceClassification",
        "regression": "GPT2ForSequenceClassification",
    },
    "llama": {
        "features": "LlamaModel",
        "lm": "LlamaForCausalLM",
        "classification": "LlamaForSequenceClassification",
        "regression": "LlamaForSequenceClassification",
    },
    "t5": {"features": "T5EncoderModel", "seq2seq": "T5ForConditionalGeneration"},
}
CONFIGS = {c.model_type: c for c in (BertConfig, GPT2Config, LlamaConfig, T5Config)}


def config_from_hf(hf: Mapping[str, Any]):
    """The config of whatever family `hf` (a parsed config.json) is of.

    Raises:
      ConfigError: a family that is not implemented, or a key that is missing or impossible.
    """
    model_type = hf.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIGS:
        raise ConfigError(
            f"model_type {model_type!r} is not implemented; implemented are {', '.join(CONFIGS)}."
        )
    return CONFIGS[model_type].from_hf(hf)
