"""Folders of sentence-transformers: a base model, how it is pooled, and what follows.

modules.json lists them, each with the folder that it lies in. Read and written is what
sentence-transformers 6 reads and writes, and what its older versions wrote.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from latadj_jax.checks import is_integer
from latadj_jax.errors import ConfigError
from latadj_jax.families.embedding import MOST_STEPS, STEP_ACTIVATIONS
from latadj_jax.families.pooling import POOLING, DenseStep, Embedding, NormalizeStep
from latadj_jax.pretrained.json_files import read_json, write_json
from latadj_jax.pretrained.weights import read_tensors

MODULES, ABOUT, TEXTS = (
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json",
)  # fmt: skip
UNLIMITED = 10**9  # what transformers writes is more where a tokenizer has no limit
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# Of versions before 5.5: a key each.
OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """What lies where.

    Attributes:
      transformer: the folder of the base model.
      width: of the hidden states that the pooling is for; None where it does not say.
      dense: those of the Dense modules, in order.
    """

    transformer: Path
    width: int | None
    embedding: Embedding
    dense: tuple[Path, ...] = ()

    def tensors(self) -> dict[str, np.ndarray]:
        """Of the Dense modules, as "dense_0.linear.weight"."""
        return {
            f"dense_{n}.{name}": tensor
            for n, folder in enumerate(self.dense)
            for name, tensor in read_tensors(folder).items()
        }


def read_layout(folder: Path) -> Layout | None:
    """The modules of a folder; None where they do not embed texts.

    Raises:
      ConfigError: modules that are not implemented, by name, or a file that cannot be used.
    """
    if not (folder / MODULES).is_file():
        return None
    listed = read_json(folder / MODULES, list)
    kinds = [_kind(folder, module) for module in listed]
    if "Pooling" not in kinds:
        return None
    if unknown := [kind for kind in kinds if kind not in (*READERS, "Transformer", "Pooling")]:
        raise ConfigError(
            f"{folder / MODULES}: the module {unknown[0]} is not implemented; implemented are "
            f"Transformer, Pooling, {', '.join(READERS)}."
        )
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") > 1:
        raise ConfigError(
            f"{folder / MODULES}: {', '.join(kinds)}: needed are a Transformer and a Pooling, "
            f"then others."
        )
    transformer, pooling, *rest = (folder / module["path"] for module in listed)
    steps = tuple(READERS[kind](path) for kind, path in zip(kinds[2:], rest, strict=True))
    width, pooled = _pooling(pooling)
    embedding = Embedding(**pooled, steps=steps, **_texts(transformer), **_about(folder))
    dense = tuple(path for kind, path in zip(kinds[2:], rest, strict=True) if kind == "Dense")
    if len(dense) > MOST_STEPS:
        raise ConfigError(f"{folder / MODULES}: {len(dense)} Dense modules; at most {MOST_STEPS}.")
    return Layout(transformer, width, embedding, dense)


def _kind(folder: Path, module: Any) -> str:
    """Transformer, of sentence_transformers.models.Transformer."""
    if not isinstance(module, Mapping) or not {"type", "path"} <= set(module):
        raise ConfigError(f"{folder / MODULES}: each module needs a type and a path: {module!r}.")
    return str(module["type"]).rsplit(".", 1)[-1]


def _pooling(folder: Path) -> tuple[int | None, dict[str, Any]]:
    file = folder / "config.json"
    hf = read_json(file)
    modes = hf.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in OLD_MODES.items() if hf.get(key)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if unknown := [mode for mode in modes if mode not in POOLING]:
        raise ConfigError(
            f"{file}: pooling {unknown[0]!r} is not implemented; implemented are "
            f"{', '.join(POOLING)}."
        )
    width = hf.get("embedding_dimension", hf.get("word_embedding_dimension"))
    return width, {"modes": modes, "include_prompt": hf.get("include_prompt", True) is not False}


def _dense(folder: Path) -> DenseStep:
    file = folder / "config.json"
    hf = read_json(file)
    sizes = [hf.get("in_features"), hf.get("out_features")]
    if not all(is_integer(size) and size > 0 for size in sizes):
        raise ConfigError(f"{file}: in_features and out_features must be sizes; they are {sizes}.")
    if hf.get("use_residual") or hf.get("module_input_name", EMBEDDED) != EMBEDDED:
        raise ConfigError(
            f"{file}: a Dense with a residual or of another input is not implemented."
        )
    activation = str(hf.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = activation.rsplit(".", 1)[-1]
    if not activation.startswith("torch.nn") or name not in STEP_ACTIVATIONS:
        raise ConfigError(
            f"{file}: activation_function {activation!r} is not implemented; implemented are "
            f"{', '.join(STEP_ACTIVATIONS)} of torch.nn."
        )
    return DenseStep(*sizes, hf.get("bias", True) is not False, name)


EMBEDDED = "sentence_embedding"  # what a module after the pooling reads and writes
READERS: dict[str, Callable[[Path], Any]] = {
    "Dense": _dense,
    "Normalize": lambda folder: NormalizeStep(),
}


def _texts(folder: Path) -> dict[str, Any]:
    """How texts are read: of sentence_bert_config.json; their length of version 6's tokenizers."""
    file, tokenizer = folder / TEXTS, folder / "tokenizer_config.json"
    hf = read_json(file) if file.is_file() else {}
    if "message" in (hf.get("modality_config") or {}):
        raise ConfigError(f"{file}: texts that a chat template writes out are not implemented.")
    length = hf.get("max_seq_length")
    if length is None and tokenizer.is_file():
        length = read_json(tokenizer).get("model_max_length")
        length = length if is_integer(length) and length < UNLIMITED else None
    if length is not None and not (is_integer(length) and length > 0):
        raise ConfigError(f"{file}: max_seq_length must be a number of tokens; it is {length!r}.")
    return {"max_length": length, "lower_case": bool(hf.get("do_lower_case"))}


def _about(folder: Path) -> dict[str, Any]:
    """Prompts and similarity: of config_sentence_transformers.json."""
    file = folder / ABOUT
    hf = read_json(file) if file.is_file() else {}
    prompts, name = hf.get("prompts") or {}, hf.get("default_prompt_name") or ""
    if not isinstance(prompts, Mapping):
        raise ConfigError(f"{file}: prompts must map names to texts; it is {prompts!r}.")
    prompts = {str(key): text or "" for key, text in prompts.items()}
    if name and name not in prompts:
        raise ConfigError(f"{file}: default_prompt_name {name!r} is none of {', '.join(prompts)}.")
    similarity = hf.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise ConfigError(
            f"{file}: similarity_fn_name {similarity!r} is none of {', '.join(SIMILARITIES)}."
        )
    return {"prompts": tuple(prompts.items()), "default_prompt": name, "similarity": similarity}


def read_activation(folder: Path) -> str | None:
    """What version 6 writes beside a CrossEncoder: the activation of its scores, by its path.

    Raises:
      ConfigError: a prompt that it puts before its pairs, which is not implemented.
    """
    file = folder / ABOUT
    hf = read_json(file) if file.is_file() else {}
    if hf.get("model_type") != "CrossEncoder":
        return None
    if name := hf.get("default_prompt_name"):
        raise ConfigError(f"{file}: a prompt of a CrossEncoder ({name!r}) is not implemented.")
    return hf.get("activation_fn")


def write_modules(
    folder: Path, embedding: Embedding, hidden_size: int, tensors: Mapping[str, np.ndarray]
) -> None:
    """Writes what `read_layout` reads, beside the base model in the same folder.

    Args:
      tensors: of the Dense modules, as `Layout.tensors` has them.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    modes = {key: mode in embedding.modes for key, mode in OLD_MODES.items()}
    if embedding.modes != tuple(mode for mode in OLD_MODES.values() if mode in embedding.modes):
        modes = {"pooling_mode": embedding.modes}  # in an order that the older keys cannot say
    about = {"word_embedding_dimension": hidden_size, "include_prompt": embedding.include_prompt}
    write_json(folder / "1_Pooling" / "config.json", {**about, **modes})
    dense = 0
    for number, step in enumerate(embedding.steps, 2):
        kind = "Dense" if isinstance(step, DenseStep) else "Normalize"
        own = folder / f"{number}_{kind}"
        own.mkdir()
        modules.append((own.name, kind))
        if isinstance(step, DenseStep):
            own_tensors = {
                name.removeprefix(f"dense_{dense}."): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"dense_{dense}.")
            }
            save_file(own_tensors, own / "model.safetensors", metadata={"format": "pt"})
            write_json(own / "config.json", _dense_config(step))
            dense += 1
    write_json(folder / MODULES, [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ])  # fmt: skip
    lengths = {} if embedding.max_length is None else {"max_seq_length": embedding.max_length}
    write_json(folder / TEXTS, {**lengths, "do_lower_case": embedding.lower_case})
    write_json(folder / ABOUT, {
        "prompts": dict(embedding.prompts),
        "default_prompt_name": embedding.default_prompt or None,
        "similarity_fn_name": embedding.similarity,
    })  # fmt: skip


def _dense_config(step: DenseStep) -> dict[str, Any]:
    home = "linear" if step.activation == "Identity" else "activation"
    return {
        "in_features": step.width_in,
        "out_features": step.width,
        "bias": step.bias,
        "activation_function": f"torch.nn.modules.{home}.{step.activation}",
    }
