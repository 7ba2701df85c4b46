"""Frozen model configs, read from a Hugging Face config."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")


class ConfigError(ValueError):
    """A model config that cannot be used; the message names the key."""


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """BERT encoder; sizes in word-vectors, heads and widths as in Hugging Face's BertConfig.

    `hf` is the JSON text that it was read from: keys that are not used here survive saving.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    type_vocab_size: int = 2
    activation: str = "gelu"
    norm_eps: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    head_dropout: float = 0.1
    initializer_range: float = 0.02
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    hf: str = dataclasses.field(default="{}", repr=False, compare=False)

    model_type = "bert"

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "BertConfig":
        if hf.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"position_embedding_type {hf['position_embedding_type']!r} is not implemented; "
                f"only 'absolute' is."
            )
        if hf.get("is_decoder"):
            raise ConfigError("is_decoder is set: a BERT decoder is not implemented.")
        hidden_dropout = _number(hf, "hidden_dropout_prob", 0.1)
        head_dropout = hf.get("classifier_dropout")  # None: as the hidden states
        return cls(
            vocab_size=_size(hf, "vocab_size"),
            hidden_size=_size(hf, "hidden_size"),
            num_layers=_size(hf, "num_hidden_layers"),
            num_heads=_size(hf, "num_attention_heads"),
            intermediate_size=_size(hf, "intermediate_size"),
            max_positions=_size(hf, "max_position_embeddings"),
            type_vocab_size=_size(hf, "type_vocab_size", 2),
            activation=hf.get("hidden_act", "gelu"),
            norm_eps=_number(hf, "layer_norm_eps", 1e-12),
            hidden_dropout=hidden_dropout,
            attention_dropout=_number(hf, "attention_probs_dropout_prob", 0.1),
            head_dropout=(
                hidden_dropout if head_dropout is None else _number(hf, "classifier_dropout", 0.0)
            ),
            initializer_range=_number(hf, "initializer_range", 0.02),
            labels=_labels(hf),
            hf=json.dumps(hf, sort_keys=True),
        )

    def to_hf(self) -> dict[str, Any]:
        """The Hugging Face config of this model: what was read, with this config's values."""
        read = json.loads(self.hf)
        read.pop("num_labels", None)  # id2label says it
        return {
            **read,
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.type_vocab_size,
            "hidden_act": self.activation,
            "layer_norm_eps": self.norm_eps,
            "hidden_dropout_prob": self.hidden_dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "classifier_dropout": self.head_dropout,
            "initializer_range": self.initializer_range,
            "id2label": {str(i): name for i, name in enumerate(self.labels)},
            "label2id": {name: i for i, name in enumerate(self.labels)},
        }

    def __post_init__(self):
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads "
                f"{self.num_heads}."
            )
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"hidden_act {self.activation!r} is not implemented; "
                f"one of {', '.join(ACTIVATIONS)} is."
            )

    def replace(self, **changes) -> "BertConfig":
        return dataclasses.replace(self, **changes)


CONFIGS = {"bert": BertConfig}


def config_from_hf(hf: Mapping[str, Any]):
    """The config of whatever family `hf` (a parsed config.json) is of.

    Raises:
      ConfigError: a family that is not implemented, or a key that is missing or impossible.
    """
    model_type = hf.get("model_type")
    if model_type not in CONFIGS:
        raise ConfigError(
            f"model_type {model_type!r} is not implemented; one of {', '.join(CONFIGS)} is."
        )
    return CONFIGS[model_type].from_hf(hf)


def _size(hf: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = hf.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"config.json: {key} must be an integer of at least 1; it is {value!r}.")
    return value


def _number(hf: Mapping[str, Any], key: str, default: float) -> float:
    value = hf.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigError(f"config.json: {key} must be a number of at least 0; it is {value!r}.")
    return float(value)


def _labels(hf: Mapping[str, Any]) -> tuple[str, ...]:
    names = hf.get("id2label")
    if not names:
        return label_names(_size(hf, "num_labels", 2))
    try:
        return tuple(str(name) for _, name in sorted(names.items(), key=lambda kv: int(kv[0])))
    except (AttributeError, ValueError):
        raise ConfigError(
            f"config.json: id2label must map ids to names; it is {names!r}."
        ) from None


def label_names(num_labels: int) -> tuple[str, ...]:
    """Names of labels that have none, as Hugging Face gives them."""
    return tuple(f"LABEL_{i}" for i in range(num_labels))
