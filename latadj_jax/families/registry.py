"""The families that there are: a line for each."""

from collections.abc import Mapping
from typing import Any

from latadj_jax.errors import ConfigError
from latadj_jax.families.decoders import gemma3, gpt2, llama, mistral, qwen, smollm3
from latadj_jax.families.encoders import (
    albert,
    bert,
    deberta,
    distilbert,
    electra,
    modernbert,
    mpnet,
    roberta,
    t5,
)
from latadj_jax.families.family import Family
from latadj_jax.families.hf_config import HfConfig

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        bert.FAMILY,
        *roberta.FAMILIES,
        distilbert.FAMILY,
        electra.FAMILY,
        albert.FAMILY,
        mpnet.FAMILY,
        modernbert.FAMILY,
        deberta.FAMILY,
        gpt2.FAMILY,
        llama.FAMILY,
        *qwen.FAMILIES,
        mistral.FAMILY,
        smollm3.FAMILY,
        gemma3.FAMILY,
        *t5.FAMILIES,
    )
}


def config_from_hf(hf: Mapping[str, Any]) -> HfConfig:
    """The config of whatever family `hf` (a parsed config.json) is of.

    Raises:
      ConfigError: a family that is not implemented, quantized weights, or a key that is missing or
        impossible.
    """
    model_type = hf.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"model_type {model_type!r} is not implemented; implemented are {', '.join(FAMILIES)}."
        )
    if quantized := hf.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
        raise ConfigError(
            f"config.json: quantization_config {method!r} is not implemented; save the model in "
            f"float32 or bfloat16."
        )
    return FAMILIES[model_type].config.from_hf(hf)
