"""Reading a Hugging Face config into a frozen one, and writing it back.

Each field names the key of config.json that it stands for; reading and writing follow from that.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latadj_jax.checks import is_integer, is_number
from latadj_jax.errors import ConfigError
from latadj_jax.families.pooling import Embedding

ACTIVATIONS = (
    "gelu", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu",
    "silu", "swish", "tanh",
)  # fmt: skip


def size(value: Any, key: str) -> int:
    if not is_integer(value) or value < 1:
        raise ConfigError(f"config.json: {key} must be an integer of at least 1; it is {value!r}.")
    return value


def number(value: Any, key: str) -> float:
    if not is_number(value) or not value >= 0:
        raise ConfigError(f"config.json: {key} must be a number of at least 0; it is {value!r}.")
    return float(value)


def share(value: Any, key: str) -> float:
    if number(value, key) > 1:
        raise ConfigError(f"config.json: {key} must be at most 1; it is {value!r}.")
    return float(value)


def flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"config.json: {key} must be true or false; it is {value!r}.")
    return value


def activation_name(value: Any, key: str) -> str:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ConfigError(
            f"{key} {value!r} is not implemented; implemented are {', '.join(ACTIVATIONS)}."
        )
    return value


def field(name: str, read, default: Any = dataclasses.MISSING) -> Any:
    """A field that stands for `name` in config.json; without a default it must be there."""
    return dataclasses.field(default=default, metadata={"hf": name, "read": read})


@dataclasses.dataclass(frozen=True, kw_only=True)
class HfConfig:
    """What the families' configs share: labels, and the way from and to config.json.

    `eos_tokens` end a text, `pad_tokens` fill it up: the ids of the vocabulary that config.json
    names. `embedding` is how its model embeds texts, of one that does. `hf` is the JSON text that
    it was read from: keys that are not used here survive saving.
    """

    initializer_range: float = field("initializer_range", number, 0.02)
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    eos_tokens: tuple[int, ...] = ()
    pad_tokens: tuple[int, ...] = ()
    embedding: Embedding | None = None
    hf: str = dataclasses.field(default="{}", repr=False, compare=False)

    dropouts = ()  # the fields that a training's dropout rate sets
    # The position that is never removed, since a head reads it: "cls", "lasttoken", or "".
    protects = ""

    if TYPE_CHECKING:  # each family adds fields of its own

        def __getattr__(self, name: str) -> Any: ...

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "HfConfig":
        filled = cls.fill(hf)
        values = {}
        for f in (f for f in dataclasses.fields(cls) if f.metadata):
            name, default = f.metadata["hf"], f.default
            fallback = None if default is dataclasses.MISSING else default
            value = filled.get(name)  # null is what a key has that nobody set
            values[f.name] = f.metadata["read"](fallback if value is None else value, name)
        return cls(
            **values,
            labels=_labels(hf),
            eos_tokens=_token_ids(hf, "eos_token_id"),
            pad_tokens=_token_ids(hf, "pad_token_id"),
            hf=json.dumps(hf, sort_keys=True),
        )

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        """`hf` with the values that follow from others; refuses what is not implemented."""
        return dict(hf)

    def to_hf(self) -> dict[str, Any]:
        """The Hugging Face config of this model: what was read, with this config's values."""
        read = json.loads(self.hf)
        read.pop("num_labels", None)  # id2label says it
        own = {f.metadata["hf"]: f.name for f in dataclasses.fields(self) if f.metadata}
        hf = {
            **read,
            "model_type": self.model_type,
            **{key: getattr(self, name) for key, name in own.items()},
            "id2label": {str(i): name for i, name in enumerate(self.labels)},
            "label2id": {name: i for i, name in enumerate(self.labels)},
        }
        for key, ids in (("eos_token_id", self.eos_tokens), ("pad_token_id", self.pad_tokens)):
            if ids != _token_ids(hf, key):
                hf[key] = ids[0] if len(ids) == 1 else list(ids) or None
        return hf

    def __post_init__(self):
        if self.hidden_size % self.num_heads:
            keys = {f.name: f.metadata["hf"] for f in dataclasses.fields(self) if f.metadata}
            raise ConfigError(
                f"{keys['hidden_size']} {self.hidden_size} is not a multiple of "
                f"{keys['num_heads']} {self.num_heads}."
            )

    def fitted(self, tensors: Mapping[str, Any]) -> tuple["HfConfig", Mapping[str, Any]]:
        """The config with what only the checkpoint's tensors say, and these under its names."""
        return self, tensors

    def replace(self, **changes) -> "HfConfig":
        return dataclasses.replace(self, **changes)

    @property
    def query_size(self) -> int:
        """Width of all heads' queries together."""
        return self.hidden_size

    @property
    def kv_size(self) -> int:
        """Width of all heads' keys, and of their values."""
        return self.hidden_size

    def keys_seen(self, layer: int, n_in: int) -> int:
        """The most that a query of that layer (from 0) sees of `n_in` word-vectors."""
        return n_in

    def position_macs(self, length: int, n_in: int) -> int:
        """Multiply-accumulates that positions add to a layer's attention.

        Args:
          length: of the text, or of what it is padded to.
          n_in: word-vectors that enter the layer.
        """
        return 0

    ff_matrices = 2  # of a feed-forward block
    head_matrices = 0  # [D, D], of a head that answers for each token, before its logits
    classifier_reads_all = False  # or CLS alone, or the last token
    tied = False  # whether the head of a language model is its embedding

    def with_dropout(self, rate: float) -> "HfConfig":
        """Every dropout that the family has, at one rate."""
        return self.replace(**dict.fromkeys(self.dropouts, rate))


def _token_ids(hf: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Ids of the vocabulary under `key`: one, several or none; 50256 or -1 may be outside of it.

    A key that is not there is none, as for transformers 5, whatever its config classes say.
    """
    ids = hf.get(key) if isinstance(hf.get(key), list) else [hf.get(key)]
    if not all(n is None or is_integer(n) for n in ids):
        raise ConfigError(f"config.json: {key} must be an id or a list of ids; it is {ids}.")
    return tuple(n for n in ids if isinstance(n, int) and 0 <= n < hf["vocab_size"])


def _labels(hf: Mapping[str, Any]) -> tuple[str, ...]:
    names = hf.get("id2label")
    if not names:
        given = hf.get("num_labels")
        return label_names(2 if given is None else size(given, "num_labels"))
    try:
        named = {int(n): str(name) for n, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        named = {}
    if not named or sorted(named) != list(range(len(named))):
        raise ConfigError(f"config.json: id2label must map 0, 1, ... to names; it is {names!r}.")
    return tuple(named[n] for n in range(len(named)))


def label_names(num_labels: int) -> tuple[str, ...]:
    """Names of labels that have none, as Hugging Face gives them."""
    return tuple(f"LABEL_{i}" for i in range(num_labels))


def fit_head(config, tensors: Mapping[str, Any], *embeddings: str):
    """`HfConfig.fitted` of a language model whose head may be its embedding.

    A tied checkpoint may hold the head alone: it is the embedding then. Where it holds both and
    they differ, the head is its own, whatever tie_word_embeddings says, as in transformers 5.

    Args:
      embeddings: names that the embedding may have; under the first of them it is put.
    """
    head = tensors.get("lm_head.weight")
    if not config.tied or head is None:
        return config, tensors
    shared = next((tensors[name] for name in embeddings if name in tensors), None)
    if shared is None:
        return config, {**tensors, embeddings[0]: head}
    return config.replace(tied=np.array_equal(head, shared)), tensors
