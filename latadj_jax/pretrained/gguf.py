"""A decoder's config and weights from one GGUF file, without torch.

Metadata keys that a file leaves out get llama.cpp's defaults.
"""

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latadj_jax.errors import GGUFError
from latadj_jax.families.decoders import gemma3, llama, qwen
from latadj_jax.families.decoders.windows import FULL, SLIDING
from latadj_jax.families.family import CAUSAL_LM, Family
from latadj_jax.pretrained.gguf_file import Header, decimal, read_header
from latadj_jax.pretrained.gguf_rope import FACTORS, rope_parameters
from latadj_jax.pretrained.gguf_token_ids import TOKENS, end_ids, token_id

log = logging.getLogger(__name__)

# The blocks of a Llama's layer whose matrices may have biases: torch's name of each, its flag in
# config.json, and what GGUF calls the biases.
BIASED = {
    "self_attn": ("attention_bias", re.compile(r"blk\.\d+\.attn_(q|k|v|output)\.bias")),
    "mlp": ("mlp_bias", re.compile(r"blk\.\d+\.ffn_(gate|up|down)\.bias")),
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What files of one architecture hold.

    Attributes:
      family: of the model.
      own: function of (header, width of a head) that gives the keys of config.json that others have
        not, or have otherwise.
      biased: parts of torch's names whose matrices may have biases.
      turned: whether rows of queries and keys lie in the order in which llama.cpp rotates them.
      above: what is added to the scales of norms.
    """

    family: Family
    own: Callable[[Header, int], dict[str, Any]]
    biased: tuple[str, ...] = ()
    turned: bool = False
    above: float = 0.0


def _llama(header: Header, head_dim: int) -> dict[str, Any]:
    has = {
        flag: any(bias.fullmatch(name) for name in header.tensors) for flag, bias in BIASED.values()
    }
    return {"hidden_act": "silu", "rope_parameters": rope_parameters(header), **has}


def _qwen(header: Header, head_dim: int) -> dict[str, Any]:
    return {"hidden_act": "silu", "rope_parameters": rope_parameters(header)}


def _gemma3(header: Header, head_dim: int) -> dict[str, Any]:
    """llama.cpp knows the one model whose scalar is no head's width, 27B, by its 62 layers."""
    largest = header.size("block_count") == 62
    local = decimal(header.get("rope.freq_base_swa", 10000.0))
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar":
            header.size("embedding_length") // _heads(header) if largest else head_dim,
        "sliding_window": header.size("attention.sliding_window"),
        "sliding_window_pattern": header.get("attention.sliding_window_pattern", 6),
        "final_logit_softcapping": header.get("final_logit_softcapping") or None,
        "rope_parameters": {
            FULL: rope_parameters(header),
            SLIDING: {"rope_type": "default", "rope_theta": local},
        },
    }  # fmt: skip


ARCHITECTURES = {
    "llama": Architecture(llama.FAMILY, _llama, tuple(BIASED), turned=True),
    "qwen2": Architecture(qwen.FAMILIES[0], _qwen, ("q_proj", "k_proj", "v_proj")),
    "qwen3": Architecture(qwen.FAMILIES[1], _qwen),
    "gemma3": Architecture(gemma3.FAMILY, _gemma3, above=1.0),
}


def read_config(file: str | Path) -> dict[str, Any]:
    """What the config.json of this language model would hold.

    Scaled rotary embeddings ("linear", "yarn", "longrope") are passed on by name. The factors per
    frequency of Llama 3.1 files become rope_type "llama3", if they are those of its published
    parameters. eos_token_id are all tokens at which llama.cpp ends a generation.

    Raises:
      GGUFError: as `gguf_file.read_header`; a metadata key that is missing or impossible.
    """
    header = read_header(file)
    architecture = ARCHITECTURES[header.architecture]
    if header.get("expert_count"):
        raise GGUFError(f"{file} holds a mixture of experts, which is not implemented.")
    hidden, heads = header.size("embedding_length"), _heads(header)
    widths = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    widths = {key: header.get(key) for key in widths if header.get(key) is not None}
    if len(set(widths.values())) > 1:
        raise GGUFError(f"{file}: heads must have one width; {widths} are not the same.")
    head_dim = next(iter(widths.values()), hidden // heads)
    if list(widths) == ["rope.dimension_count"] and head_dim < hidden // heads:
        raise GGUFError(
            f"{file}: {header.key('rope.dimension_count')} {head_dim} of heads of "
            f"{hidden // heads}: rotary positions of a part of a head are not implemented."
        )
    ends = end_ids(header)
    return {
        "model_type": architecture.family.name,
        "architectures": [architecture.family.heads[CAUSAL_LM].architecture],
        "vocab_size": _vocab_size(header),
        "hidden_size": hidden,
        "num_hidden_layers": header.size("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _heads(header, "_kv"),
        "head_dim": head_dim,
        "intermediate_size": header.size("feed_forward_length"),
        "max_position_embeddings": header.size("context_length"),
        "rms_norm_eps": decimal(header.need(header.key("attention.layer_norm_rms_epsilon"))),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "bos_token_id": token_id(header, "bos"),
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": token_id(header, "padding"),
        **architecture.own(header, head_dim),
    }


def read_tensors(file: str | Path) -> dict[str, np.ndarray]:
    """All weights, by torch name, in torch layout ([out, in] kernels), float32.

    If one matrix of a kind of block of a Llama has a bias, those without one get one of zeros:
    transformers' config.json has one flag for all of them.

    Raises:
      GGUFError: as `read_config`; tensors that are none of the model's, or cannot be de-quantized.
    """
    header = read_header(file)
    architecture = ARCHITECTURES[header.architecture]
    torch_names = _torch_names(header, architecture)
    names = {name: torch_names.get(name) for name in header.tensors if name not in _factors(header)}
    if unknown := [name for name, torch_name in names.items() if torch_name is None]:
        title = architecture.family.config.__name__.removesuffix("Config")
        raise GGUFError(
            f"{file} holds tensors that are none of a plain {title} model's: "
            f"{', '.join(unknown[:8])}{f' and {len(unknown) - 8} more' * (len(unknown) > 8)}."
        )
    tensors = {torch_name: header.array(name) for name, torch_name in names.items()}
    for name, array in tensors.items():
        turned = re.fullmatch(r".*\.(q|k)_proj\.(weight|bias)", name)
        if architecture.turned and turned:
            heads = _heads(header, "_kv" if turned[1] == "k" else "")
            if array.ndim != (2 if turned[2] == "weight" else 1) or len(array) % (2 * heads):
                raise GGUFError(f"{file}: {name} {array.shape} cannot be cut into {heads} heads.")
            tensors[name] = _halves(array, heads)
        elif architecture.above and name.endswith("norm.weight"):
            tensors[name] = array - np.float32(architecture.above)
    return tensors | (_zero_biases(tensors) if architecture.family is llama.FAMILY else {})


def _heads(header: Header, of: str = "") -> int:
    name = f"attention.head_count{of}"
    return header.size(name if header.key(name) in header.metadata else "attention.head_count")


def _vocab_size(header: Header) -> int:
    """Rows of the embedding: a converter may have padded it, or have forgotten to change the key
    when it added tokens."""
    data, embedding = header.metadata, header.tensors.get("token_embd.weight")
    said = header.get("vocab_size") or len(header.need(TOKENS))
    if embedding is None:
        return said
    rows, tokens = int(embedding.shape[-1]), len(data.get(TOKENS, ()))  # GGUF has [in, out]
    if rows < tokens:
        raise GGUFError(
            f"{header.file}: token_embd.weight has {rows} rows for the {tokens} tokens of {TOKENS}."
        )
    if rows != said:
        log.warning(
            "%s: vocab_size is %d, the rows of token_embd.weight, not %d.", header.file, rows, said
        )
    return rows


def _factors(header: Header) -> tuple[str, ...]:
    """Those tensors that `rope_parameters` reads."""
    is_longrope = header.get("rope.scaling.type") == "longrope"
    return FACTORS if is_longrope else FACTORS[:1]


def _torch_names(header: Header, architecture: Architecture) -> dict[str | None, str]:
    """The torch name of each weight and bias that a model may have, by GGUF's name."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    # A file has at least one tensor for each layer; a damaged number would be counted up for ever.
    layers = min(header.size("block_count"), len(header.tensors))
    of_torch = get_tensor_name_map(MODEL_ARCH[header.architecture.upper()], layers)
    family, found = architecture.family, {}
    inside = [f"{family.prefix}{name}" for name in family.names.values()]
    for theirs in (*inside, *family.heads[CAUSAL_LM].names.values()):
        biased = set(theirs.split(".")) & {*architecture.biased}
        leaves = ("weight", "bias") if biased else ("weight",)
        for name in {f"{theirs.format(n=n)}.{leaf}" for n in range(layers) for leaf in leaves}:
            found[of_torch.get_name(name, try_suffixes=(".weight", ".bias"))] = name
    return found


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key kernel, or of its bias, reordered within each head.

    llama.cpp rotates rows (2i, 2i + 1) together, Hugging Face rows (i, i + C / 2): of a head with
    rows 0, 1, 2, 3 it is 0, 2, 1, 3.
    """
    pairs = array.reshape(heads, len(array) // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(array.shape)


def _zero_biases(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Biases that a matrix lacks and another one of the same kind of block has, by torch name."""
    zeros = {}
    for block in BIASED:
        names = [name.removesuffix(".weight") for name in tensors
                 if f".{block}." in name and name.endswith(".weight")]  # fmt: skip
        lacking = [name for name in names if f"{name}.bias" not in tensors]
        if len(lacking) < len(names):
            widths = {name: len(tensors[f"{name}.weight"]) for name in lacking}
            zeros |= {f"{name}.bias": np.zeros(n, np.float32) for name, n in widths.items()}
    return zeros
