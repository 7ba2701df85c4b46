"""Hugging Face weights to parameters and back.

One rename table per family says which module of ours each tensor belongs to; `merge` loses nothing
in silence.
"""

import logging
import re
from collections.abc import Mapping

import flax
import numpy as np

from latadj_jax.devices.mesh import fetch
from latadj_jax.devices.param_specs import placer
from latadj_jax.devices.processes import is_first_process
from latadj_jax.errors import WeightsError
from latadj_jax.pretrained.weights import LEAVES

log = logging.getLogger(__name__)

# Our module path -> Hugging Face's, without the prefix that task models put before the base model.
BERT = {
    "embeddings/word": "embeddings.word_embeddings",
    "embeddings/position": "embeddings.position_embeddings",
    "embeddings/token_type": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
    "layer_{n}/query": "encoder.layer.{n}.attention.self.query",
    "layer_{n}/key": "encoder.layer.{n}.attention.self.key",
    "layer_{n}/value": "encoder.layer.{n}.attention.self.value",
    "layer_{n}/attention_out": "encoder.layer.{n}.attention.output.dense",
    "layer_{n}/attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
    "layer_{n}/ff_in": "encoder.layer.{n}.intermediate.dense",
    "layer_{n}/ff_out": "encoder.layer.{n}.output.dense",
    "layer_{n}/ff_norm": "encoder.layer.{n}.output.LayerNorm",
    "pooler": "pooler.dense",
    "classifier": "classifier",
}
GPT2 = {
    "word": "wte",
    "position": "wpe",
    "layer_{n}/attention_norm": "h.{n}.ln_1",
    "layer_{n}/query": "h.{n}.attn.c_attn.query",
    "layer_{n}/key": "h.{n}.attn.c_attn.key",
    "layer_{n}/value": "h.{n}.attn.c_attn.value",
    "layer_{n}/attention_out": "h.{n}.attn.c_proj",
    "layer_{n}/ff_norm": "h.{n}.ln_2",
    "layer_{n}/ff_in": "h.{n}.mlp.c_fc",
    "layer_{n}/ff_out": "h.{n}.mlp.c_proj",
    "final_norm": "ln_f",
    "head": "lm_head",
    "classifier": "score",
}
LLAMA = {
    "word": "embed_tokens",
    "layer_{n}/attention_norm": "layers.{n}.input_layernorm",
    "layer_{n}/query": "layers.{n}.self_attn.q_proj",
    "layer_{n}/key": "layers.{n}.self_attn.k_proj",
    "layer_{n}/value": "layers.{n}.self_attn.v_proj",
    "layer_{n}/attention_out": "layers.{n}.self_attn.o_proj",
    "layer_{n}/ff_norm": "layers.{n}.post_attention_layernorm",
    "layer_{n}/gate": "layers.{n}.mlp.gate_proj",
    "layer_{n}/up": "layers.{n}.mlp.up_proj",
    "layer_{n}/down": "layers.{n}.mlp.down_proj",
    "final_norm": "norm",
    "head": "lm_head",
    "classifier": "score",
}
T5 = {
    "shared": "shared",
    "encoder_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "encoder_layer_{n}/attention_norm": "encoder.block.{n}.layer.0.layer_norm",
    "encoder_layer_{n}/query": "encoder.block.{n}.layer.0.SelfAttention.q",
    "encoder_layer_{n}/key": "encoder.block.{n}.layer.0.SelfAttention.k",
    "encoder_layer_{n}/value": "encoder.block.{n}.layer.0.SelfAttention.v",
    "encoder_layer_{n}/attention_out": "encoder.block.{n}.layer.0.SelfAttention.o",
    "encoder_layer_{n}/ff/norm": "encoder.block.{n}.layer.1.layer_norm",
    "encoder_layer_{n}/ff/wide": "encoder.block.{n}.layer.1.DenseReluDense.wi",
    "encoder_layer_{n}/ff/gate": "encoder.block.{n}.layer.1.DenseReluDense.wi_0",
    "encoder_layer_{n}/ff/up": "encoder.block.{n}.layer.1.DenseReluDense.wi_1",
    "encoder_layer_{n}/ff/down": "encoder.block.{n}.layer.1.DenseReluDense.wo",
    "encoder_norm": "encoder.final_layer_norm",
    "decoder_bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "decoder_layer_{n}/attention_norm": "decoder.block.{n}.layer.0.layer_norm",
    "decoder_layer_{n}/query": "decoder.block.{n}.layer.0.SelfAttention.q",
    "decoder_layer_{n}/key": "decoder.block.{n}.layer.0.SelfAttention.k",
    "decoder_layer_{n}/value": "decoder.block.{n}.layer.0.SelfAttention.v",
    "decoder_layer_{n}/attention_out": "decoder.block.{n}.layer.0.SelfAttention.o",
    "decoder_layer_{n}/cross_norm": "decoder.block.{n}.layer.1.layer_norm",
    "decoder_layer_{n}/cross_query": "decoder.block.{n}.layer.1.EncDecAttention.q",
    "decoder_layer_{n}/cross_key": "decoder.block.{n}.layer.1.EncDecAttention.k",
    "decoder_layer_{n}/cross_value": "decoder.block.{n}.layer.1.EncDecAttention.v",
    "decoder_layer_{n}/cross_out": "decoder.block.{n}.layer.1.EncDecAttention.o",
    "decoder_layer_{n}/ff/norm": "decoder.block.{n}.layer.2.layer_norm",
    "decoder_layer_{n}/ff/wide": "decoder.block.{n}.layer.2.DenseReluDense.wi",
    "decoder_layer_{n}/ff/gate": "decoder.block.{n}.layer.2.DenseReluDense.wi_0",
    "decoder_layer_{n}/ff/up": "decoder.block.{n}.layer.2.DenseReluDense.wi_1",
    "decoder_layer_{n}/ff/down": "decoder.block.{n}.layer.2.DenseReluDense.wo",
    "decoder_norm": "decoder.final_layer_norm",
    "head": "lm_head",
}
RENAMES = {"bert": BERT, "gpt2": GPT2, "llama": LLAMA, "t5": T5}
PREFIXES = {"bert": "bert.", "gpt2": "transformer.", "llama": "model.", "t5": ""}
# Modules of ours that stand beside the base model, and those that a checkpoint may lack.
BESIDE = ("classifier", "head")
HEADS = {"bert": ("pooler", "classifier"), "gpt2": BESIDE, "llama": BESIDE, "t5": ()}
# GPT-2's Conv1D keeps its kernels [in, out], as we do; three of them are one tensor, side by side.
CONV1D = {"gpt2": ("query", "key", "value", "attention_out", "ff_in", "ff_out")}
FUSED = {"gpt2": ("attn.c_attn", ("query", "key", "value"))}
# Tensors of theirs that may be left over: heads of other tasks, and buffers that are no weights.
DROPPED = {
    "bert": re.compile(r"cls\.|classifier\.|qa_outputs\.|embeddings\.position_ids$"),
    "gpt2": re.compile(
        r"(lm_head|score|classifier|qa_outputs|multiple_choice_head)\.|h\.\d+\.attn\.(masked_)?bias$"
    ),
    "llama": re.compile(r"(lm_head|score|qa_outputs)\.|.*rotary_emb\.inv_freq$"),
    "t5": re.compile(
        r"(encoder|decoder)\.embed_tokens\.weight$|lm_head\.|"
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$"
    ),
}
# The embedding, and the names of what may be tied to it: files may hold one of them alone.
TIED = {
    "gpt2": ("transformer.wte.weight", "lm_head.weight"),
    "llama": ("model.embed_tokens.weight", "lm_head.weight"),
    "t5": ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
}
# Parts of a checkpoint that a task may do without, as a whole.
PARTS = {"t5": "decoder."}


def merge(
    family: str, expected, tensors: Mapping[str, np.ndarray], dtype, seed: int, init_std: float
):
    """Parameters in the shape of `expected`, filled with `tensors`.

    Heads that the checkpoint lacks are drawn anew (normal with `init_std`, biases 0) and logged.

    Args:
      expected: tree of ShapeDtypeStruct, as `jax.eval_shape` of the model's init gives it.
      tensors: by torch name, in torch layout.

    Raises:
      WeightsError: tensors missing, unexpected or of another shape, all listed.
    """
    tensors = _split(family, {_canonical(family, n): array for n, array in tensors.items()})
    missing, misshaped, new, flat = [], [], [], {}
    place = placer(family, dtype)
    leaves = flax.traverse_util.flatten_dict(expected)
    # A head may be new as a whole; half of one was lost.
    present = {path[0] for path in leaves if _torch_name(family, path) in tensors}
    for path, leaf in leaves.items():
        name = _torch_name(family, path)
        array = tensors.pop(name, None)
        if array is None:
            if path[0] in HEADS[family] and path[0] not in present:
                new.append(name)
                flat[path] = place(path, _new_leaf(path, leaf.shape, seed, init_std))
            else:
                missing.append(name)
            continue
        array = array.T if _is_transposed(family, path) else array
        if array.shape != leaf.shape:
            misshaped.append(f"{name} {list(array.shape)} instead of {list(leaf.shape)}")
            continue
        flat[path] = place(path, array)
    part = PARTS.get(family)
    if part and not any(_torch_name(family, path).startswith(part) for path in leaves):
        tensors = {name: array for name, array in tensors.items() if not name.startswith(part)}
    unexpected = sorted(name for name in tensors if not DROPPED[family].match(name))
    problems = [
        f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' * (len(names) > 8)}"
        for what, names in
        (("missing", missing), ("of another shape", misshaped), ("unexpected", unexpected))
        if names
    ]  # fmt: skip
    if problems:
        raise WeightsError(f"the weights do not fit this {family} config; {'; '.join(problems)}.")
    if new:
        log.warning("Drawn anew, as the checkpoint lacks them: %s", ", ".join(new))
    return flax.traverse_util.unflatten_dict(flat)


def with_embedding(family: str, tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """`tensors` of a tied model, with the embedding under its own name too."""
    own, *others = TIED[family]
    if own in tensors or own.removeprefix(PREFIXES[family]) in tensors:
        return tensors
    found = [tensors[name] for name in others if name in tensors]
    return {**tensors, own: found[0]} if found else tensors


def to_tensors(family: str, task: str, params) -> dict[str, np.ndarray]:
    """`params` on the host, under torch names and in torch layout; of the first process only."""
    tensors = {}
    for path, array in flax.traverse_util.flatten_dict(params).items():
        name = _torch_name(family, path)
        if task != "features" and path[0] not in BESIDE:
            name = PREFIXES[family] + name
        array = fetch(array)
        if not is_first_process():
            continue
        tensors[name] = np.ascontiguousarray(array.T if _is_transposed(family, path) else array)
    return _join(family, tensors)


def _canonical(family: str, name: str) -> str:
    """Torch name without the base model's prefix, and with today's names for norm weights."""
    name = name.removeprefix(PREFIXES[family])
    return re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", name))


def _torch_name(family: str, path: tuple[str, ...]) -> str:
    *module, leaf = path
    number = re.search(r"(?<=layer_)\d+", module[0])
    ours = "/".join(module)
    if number:
        ours = ours.replace(f"layer_{number[0]}/", "layer_{n}/", 1)
    theirs = RENAMES[family][ours]
    return f"{theirs.format(n=number[0]) if number else theirs}.{LEAVES[leaf]}"


def _split(family: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`tensors` with each fused one in parts, along its last axis."""
    fused, parts = FUSED.get(family, ("no such name", ()))
    split = {}
    for name, array in tensors.items():
        before, found, leaf = name.partition(f"{fused}.")
        if found and array.shape[-1] % len(parts) == 0:
            arrays = np.split(np.asarray(array), len(parts), axis=-1)
            split |= {f"{before}{fused}.{p}.{leaf}": a for p, a in zip(parts, arrays, strict=True)}
        else:
            split[name] = array
    return split


def _join(family: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The other way round."""
    fused, parts = FUSED.get(family, ("no such name", ()))
    joined, of_fused = {}, {}
    for name, array in tensors.items():
        before, found, rest = name.partition(f"{fused}.")
        if found:
            part, leaf = rest.split(".")
            of_fused.setdefault(f"{before}{fused}.{leaf}", {})[part] = array
        else:
            joined[name] = array
    return joined | {
        name: np.concatenate([arrays[part] for part in parts], axis=-1)
        for name, arrays in of_fused.items()
    }


def _is_transposed(family: str, path: tuple[str, ...]) -> bool:
    return path[-1] == "kernel" and path[-2] not in CONV1D.get(family, ())


def _new_leaf(path: tuple[str, ...], shape, seed: int, std: float) -> np.ndarray:
    if path[-1] != "kernel":
        return np.zeros(shape)
    rng = np.random.default_rng([seed, *"/".join(path).encode()])
    return rng.normal(0.0, std, shape)
