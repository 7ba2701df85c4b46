"""Mistral: Llama whose layers see a window of the text only; of later versions all of it.

Source: Jiang et al., arXiv 2310.06825.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from latadj_jax.families.decoders.llama import LlamaConfig, family
from latadj_jax.families.hf_config import field, size
from latadj_jax.families.rotary import or_null

# What its class has where a config leaves a key out; a sliding_window of null is no window.
UNSET = {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MistralConfig(LlamaConfig):
    """Mistral decoder, as Hugging Face's MistralConfig."""

    attention_bias: bool = False  # no keys of its
    mlp_bias: bool = False
    window: int | None = field("sliding_window", or_null(size))

    model_type = "mistral"

    @property
    def windows(self) -> tuple[int | None, ...]:
        return (self.window,) * self.num_layers

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        return LlamaConfig.fill({**UNSET, **hf})


FAMILY = family(MistralConfig, "Mistral")
