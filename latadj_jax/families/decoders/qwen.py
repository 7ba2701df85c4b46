"""Qwen2 and Qwen3: Llama with biases of queries, keys and values, or with norms of heads instead.

Layers from max_window_layers on may see a window only.

Source: Yang et al., arXiv 2407.10671 and 2505.09388.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from latadj_jax.families.decoders.llama import HEAD_NORMS, NAMES, LlamaConfig, family
from latadj_jax.families.decoders.windows import WindowedConfig, with_layer_types
from latadj_jax.families.hf_config import flag, number

# What their classes have where a config leaves a key out.
UNSET = {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _QwenConfig(WindowedConfig):
    mlp_bias: bool = False  # no key of theirs

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        hf = {**UNSET, **hf}
        uses, first = hf.get("use_sliding_window"), hf.get("max_window_layers")
        if not (uses is not None and flag(uses, "use_sliding_window")):
            hf["sliding_window"] = None
        first = 28 if first is None else number(first, "max_window_layers")
        slides = hf["sliding_window"] is not None
        return LlamaConfig.fill(with_layer_types(hf, lambda n: slides and n >= first))

    def to_hf(self) -> dict[str, Any]:
        return {**super().to_hf(), "use_sliding_window": self.window is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config(_QwenConfig):
    """Qwen2 decoder, as Hugging Face's Qwen2Config."""

    attention_bias: bool = True  # of all of its models: no key

    model_type = "qwen2"
    output_bias = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config(_QwenConfig):
    """Qwen3 decoder, as Hugging Face's Qwen3Config."""

    model_type = "qwen3"
    head_norms = True

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        return _QwenConfig.fill({"head_dim": 128, **hf})


FAMILIES = (
    family(Qwen2Config, "Qwen2"),
    family(Qwen3Config, "Qwen3", names={**NAMES, **HEAD_NORMS}),
)
