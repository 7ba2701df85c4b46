"""SmolLM3: Llama of which every fourth layer rotates nothing (NoPE).

Source: Yang et al., arXiv 2501.18795 (RoPE and NoPE in turn).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from latadj_jax.checks import is_integer
from latadj_jax.errors import ConfigError
from latadj_jax.families.decoders.llama import LlamaConfig, family
from latadj_jax.families.decoders.windows import WindowedConfig, with_layer_types
from latadj_jax.families.hf_config import field, flag, size
from latadj_jax.families.rotary import Rope

# What its class has where a config leaves a key out.
UNSET = {
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rope_theta": 2000000.0,
    "sliding_window": None,
}


def _marks(value: Any, key: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(is_integer(n) and n in (0, 1) for n in value):
        raise ConfigError(f"config.json: {key} must be a list of 0 and 1; it is {value!r}.")
    return tuple(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmolLM3Config(WindowedConfig):
    """SmolLM3 decoder, as Hugging Face's SmolLM3Config."""

    rotates: tuple[int, ...] = field("no_rope_layers", _marks)  # 1 of a layer that does
    tied: bool = field("tie_word_embeddings", flag, True)

    model_type = "smollm3"

    @property
    def ropes(self) -> tuple[Rope | None, ...]:
        return tuple(self.rope if does else None for does in self.rotates[: self.num_layers])

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        hf, every = {**UNSET, **hf}, size(hf.get("num_hidden_layers"), "num_hidden_layers")
        if hf.get("no_rope_layers") is None:
            apart = hf.get("no_rope_layer_interval")
            apart = 4 if apart is None else size(apart, "no_rope_layer_interval")
            hf["no_rope_layers"] = [int((n + 1) % apart != 0) for n in range(every)]
        rotates = _marks(hf["no_rope_layers"], "no_rope_layers")
        if len(rotates) < every:
            raise ConfigError(
                f"no_rope_layers has {len(rotates)} entries; num_hidden_layers is {every}."
            )
        slides = bool(hf.get("use_sliding_window")) and hf["sliding_window"] is not None
        return LlamaConfig.fill(with_layer_types(hf, lambda n: slides and not rotates[n]))


FAMILY = family(SmolLM3Config, "SmolLM3")
