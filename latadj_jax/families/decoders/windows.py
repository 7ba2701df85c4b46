"""Layers that see a window of the text only: which they are, by the layer_types of config.json.

A window is a distance between original positions: that something was removed in between brings
nothing nearer.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from latadj_jax.errors import ConfigError
from latadj_jax.families.decoders.llama import LlamaConfig
from latadj_jax.families.hf_config import field, size
from latadj_jax.families.rotary import or_null

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_types(value: Any, key: str) -> tuple[str, ...]:
    kinds = tuple(value) if isinstance(value, list | tuple) else (value,)
    if unknown := [kind for kind in kinds if kind not in (FULL, SLIDING)]:
        raise ConfigError(
            f"config.json: {key} has {unknown[0]!r}, which is not implemented; {FULL!r} and "
            f"{SLIDING!r} are."
        )
    return kinds


def with_layer_types(hf: Mapping[str, Any], slides: Callable[[int], bool]) -> dict[str, Any]:
    """`hf` with its layer_types, which older configs leave out.

    Args:
      slides: of a layer's number, from 0: whether it sees a window only.
    """
    kinds = hf.get("layer_types")
    if kinds is None:
        every = range(size(hf.get("num_hidden_layers"), "num_hidden_layers"))
        kinds = [SLIDING if slides(n) else FULL for n in every]
    return {**hf, "layer_types": layer_types(kinds, "layer_types")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowedConfig(LlamaConfig):
    """A decoder of which some layers see a window only; its `fill` says which, and how wide."""

    layer_types: tuple[str, ...] = field("layer_types", layer_types)
    window: int | None = field("sliding_window", or_null(size))

    @property
    def windows(self) -> tuple[int | None, ...]:
        return tuple(self.window if kind == SLIDING else None for kind in self.layer_types)

    def __post_init__(self):
        super().__post_init__()
        if len(self.layer_types) != self.num_layers:
            raise ConfigError(
                f"layer_types has {len(self.layer_types)} entries; num_hidden_layers is "
                f"{self.num_layers}."
            )
        if SLIDING in self.layer_types and self.window is None:
            raise ConfigError(f"layer_types has {SLIDING!r}, but there is no sliding_window.")
