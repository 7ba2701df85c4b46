"""The config of ModernBERT: which layers are local, and the rotary positions of both kinds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
from latadj_jax.families.rotary import POSITIONS, Rope, positive

GLOBAL, LOCAL = "full_attention", "sliding_attention"  # kinds of layers, as layer_types has them
# The key of each kind's theta, where rope_parameters does not say it, and its default.
THETAS = {GLOBAL: ("global_rope_theta", 160000.0), LOCAL: ("local_rope_theta", 10000.0)}
EVERY = "global_attn_every_n_layers"
BY_LENGTH = ("dynamic", "longrope")  # ropes that turn a long text's tokens otherwise


def _pooling(value: Any, key: str) -> str:
    if value not in ("cls", "mean"):
        raise ConfigError(f"config.json: {key} must be 'cls' or 'mean'; it is {value!r}.")
    return value


def _ropes(hf: Mapping[str, Any]) -> tuple[Rope, Rope]:
    """Those of global and of local layers, wherever transformers 4 and 5 look for them."""
    said, scaling = hf.get("rope_parameters") or {}, hf.get("rope_scaling") or {}
    if not isinstance(said, Mapping) or not {*said} <= {*THETAS}:
        raise ConfigError(
            f"config.json: rope_parameters must have an object for {GLOBAL!r} and one for "
            f"{LOCAL!r}; it is {said!r}."
        )
    thetas = {kind: hf.get(key, default) for kind, (key, default) in THETAS.items()}
    if thetas[GLOBAL] is None:
        thetas[GLOBAL] = THETAS[GLOBAL][1]
    if thetas[LOCAL] is None:  # as transformers 4 has it
        thetas[LOCAL] = thetas[GLOBAL]
    ropes = []
    for kind, theta in thetas.items():
        own = said.get(kind) or {}
        if not isinstance(own, Mapping) or not isinstance(scaling, Mapping):
            raise ConfigError(f"config.json: the rope of {kind} must be an object; it is {own!r}.")
        rope = Rope.from_hf(
            {POSITIONS: hf[POSITIONS], "rope_parameters": {"rope_theta": theta, **own, **scaling}}
        )
        if rope.kind in BY_LENGTH:
            raise ConfigError(
                f"config.json: a rope of type {rope.kind!r} is not implemented for {kind}; its "
                f"frequencies would depend on the length of the text."
            )
        ropes.append(rope)
    return tuple(ropes)


def _layer_types(value: Any, num_layers: int) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not {*value} <= {GLOBAL, LOCAL}:
        raise ConfigError(
            f"config.json: layer_types must be a list of {GLOBAL!r} and {LOCAL!r}; it is {value!r}."
        )
    if len(value) != num_layers:
        raise ConfigError(
            f"config.json: layer_types names {len(value)} layers, num_hidden_layers {num_layers}."
        )
    return tuple(value)


def _every(n: int, num_layers: int) -> tuple[str, ...]:
    """The kinds of layers where every n-th is global, the first among them."""
    return tuple(LOCAL if layer % n else GLOBAL for layer in range(num_layers))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig(HfConfig):
    """ModernBERT encoder, as Hugging Face's ModernBertConfig."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("hidden_size", size)
    num_layers: int = field("num_hidden_layers", size)
    num_heads: int = field("num_attention_heads", size)
    intermediate_size: int = field("intermediate_size", size)
    trained_positions: int = field(POSITIONS, size, 8192)
    layer_types: tuple[str, ...] = field("layer_types", lambda types, key: types)
    local_attention: int = field("local_attention", size, 128)
    ropes: tuple[Rope, Rope] = field("rope_parameters", lambda ropes, key: ropes)
    activation: str = field("hidden_activation", activation_name, "gelu")
    norm_eps: float = field("norm_eps", number, 1e-5)
    norm_bias: bool = field("norm_bias", flag, False)
    attention_bias: bool = field("attention_bias", flag, False)
    mlp_bias: bool = field("mlp_bias", flag, False)
    embedding_dropout: float = field("embedding_dropout", share, 0.0)
    attention_dropout: float = field("attention_dropout", share, 0.0)
    mlp_dropout: float = field("mlp_dropout", share, 0.0)
    head_dropout: float = field("classifier_dropout", share, 0.0)
    pooling: str = field("classifier_pooling", _pooling, "cls")
    head_bias: bool = field("classifier_bias", flag, False)
    head_activation: str = field("classifier_activation", activation_name, "gelu")
    initializer_cutoff: float = field("initializer_cutoff_factor", positive, 2.0)

    model_type = "modernbert"
    protects = "cls"
    dropouts = ("embedding_dropout", "attention_dropout", "mlp_dropout", "head_dropout")
    ff_matrices = 3  # gate, up and down
    head_matrices = 1

    @property
    def max_positions(self) -> int:
        """Tokens that it can read."""
        return self.ropes[0].reach(self.trained_positions)

    @property
    def classifier_reads_all(self) -> bool:
        return self.pooling == "mean"

    def window(self, layer: int) -> int | None:
        """How far a query of that layer (from 0) sees to each side; None is everywhere."""
        return self.local_attention // 2 if self.layer_types[layer] == LOCAL else None

    def keys_seen(self, layer: int, n_in: int) -> int:
        window = self.window(layer)
        return n_in if window is None else min(n_in, 2 * window + 1)

    def rope(self, layer: int) -> Rope:
        return self.ropes[self.layer_types[layer] == LOCAL]

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(hf)
        layers = size(hf.get("num_hidden_layers"), "num_hidden_layers")
        if (types := hf.get("layer_types")) is None:
            n = hf.get(EVERY)
            types = _every(3 if n is None else size(n, EVERY), layers)
        filled["layer_types"] = _layer_types(types, layers)
        if (side := hf.get("sliding_window")) is not None:  # which transformers 5 prefers
            filled["local_attention"] = 2 * size(side, "sliding_window")
        if hf.get(POSITIONS) is None:
            filled[POSITIONS] = 8192
        filled["rope_parameters"] = _ropes(filled)
        return filled

    def to_hf(self) -> dict[str, Any]:
        """In the words of transformers 4 and 5, where both have some."""
        hf = super().to_hf()
        hf.pop("rope_scaling", None)  # beside rope_parameters it could say otherwise
        types = hf["layer_types"] = self.layer_types[: self.num_layers]
        tried = (hf.get(EVERY) or 3, *range(1, self.num_layers + 1))
        hf[EVERY] = next((n for n in tried if _every(n, self.num_layers) == types), None)
        hf["rope_parameters"] = {}
        for (kind, (key, _)), rope in zip(THETAS.items(), self.ropes, strict=True):
            hf["rope_parameters"][kind] = rope.to_hf()
            hf[key] = rope.theta
        return hf

    def __post_init__(self):
        super().__post_init__()
        head_size = self.hidden_size // self.num_heads
        if head_size % 2:
            raise ConfigError(
                f"hidden_size {self.hidden_size} over num_attention_heads {self.num_heads} is odd: "
                f"rotary positions need pairs."
            )
