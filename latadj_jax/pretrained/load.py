"""Loading a checkpoint: a model and its parameters."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latadj_jax.checks import DTYPES, check_integer
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.plan import REMOVED, check_removed_as
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.strategies import MERGE, SCORE, find
from latadj_jax.errors import ConfigError
from latadj_jax.families.family import CAUSAL_LM
from latadj_jax.families.hf_config import label_names
from latadj_jax.families.pooling import Embedding
from latadj_jax.families.registry import FAMILIES, config_from_hf
from latadj_jax.model.model import Model, param_shapes
from latadj_jax.pretrained import convert, gguf, weights
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.logit_score import read_logit_score, with_classifier, yes_and_no
from latadj_jax.pretrained.sentence_transformers import read_activation, read_layout
from latadj_jax.pretrained.sources import resolve
from latadj_jax.pretrained.tokenizers import eos_token_id, token_ids
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.features import FEATURES
from latadj_jax.tasks.ranking import MARK, RANKING
from latadj_jax.tasks.registry import TASKS, tasks_of

log = logging.getLogger(__name__)


def from_pretrained(
    source: str | os.PathLike,
    task: str | None = None,
    num_labels: int | None = None,
    dtype: str = "float32",
    *,
    seed: int = 0,
    strict: bool = True,
) -> tuple[Model, Any]:
    """Loads a checkpoint in the layout of Hugging Face, sentence-transformers or GGUF.

    Args:
      source: one of:

        - a folder with config.json and model.safetensors (or flax_model.msgpack, or
          pytorch_model.bin), or a folder of sentence-transformers;
        - a hub id;
        - a .gguf file of a decoder, or any part of a split one;
        - "package:NAME/path", a folder or file inside an installed package.
      task: "features", "embedding", "classification", "multi-label", "ranking", "regression",
        "token-classification", "question-answering", "lm" or "seq2seq". By default the checkpoint
        says it: its `architectures`; "embedding" for a folder of sentence-transformers; "ranking"
        for a CrossEncoder with one label. Without architectures it is "features", which is logged.
        A task that the checkpoint has no head for gets a new head; "features" ignores its head. A
        language model can be read for "ranking", see logit_score.py.
      num_labels: number of labels, if it is not the checkpoint's; the head is then a new one.
      dtype: dtype of parameters and computation, "float32" or "bfloat16".
      seed: seed of new heads.
      strict: whether to refuse tensors that no known class of the family has. Tensors of known
        heads that the task does not read are ignored and logged.

    Returns:
      The model (a frozen description) and its parameters (a pytree). Profile, strategy and default
      alpha come from elimination.json, if there is one; a strategy of heads that answer for each
      token becomes "merge" for another task. A text ends at the token that
      generation_config.json names, else config.json, else the tokenizer.

    Raises:
      ValueError: something is missing, unreadable or does not fit; one sentence names it.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; it is {dtype!r}.")
    given = task
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"source must be a path or a hub id; it is {source!r}.")
    if not (task is None or isinstance(task, str)):
        raise ValueError(f"task must be a name, e.g. 'classification'; it is {task!r}.")
    check_integer("seed", seed, 0)
    if num_labels is not None:
        check_integer("num_labels", num_labels, 1)
    path = resolve(os.fspath(source))
    layout, is_gguf = read_layout(path), path.suffix.lower() == ".gguf"
    folder = layout.transformer if layout else path
    hf = _read_config(folder)
    config = config_from_hf(hf)
    own = EMBEDDING.name if layout else _own_task(hf, _saved_task(path))
    speaks = own in TASKS and TASKS[own].head == CAUSAL_LM
    answers = read_logit_score(path) if speaks else None
    task = task or (RANKING.name if answers else own)
    if layout and layout.width not in (None, config.hidden_size):
        raise ConfigError(
            f"{path}: the pooling is for {layout.width} numbers, the model has "
            f"{config.hidden_size}."
        )
    if task == EMBEDDING.name:
        config = config.replace(embedding=layout.embedding if layout else Embedding())
    if task is None:
        raise ConfigError(_no_head(hf))
    if not (given or layout or hf.get("architectures")):
        log.warning("%s names no architectures: read as features; name another task=.", path)
    record = TASKS.get(task)  # of a task that is not known `Model` says so below
    if num_labels is not None and not (record and record.labelled):
        labelled = ", ".join(name for name, known in TASKS.items() if known.labelled)
        raise ValueError(f"num_labels is for {labelled}; the task is {task!r}.")
    if num_labels is None and record and own != task:
        has_head = own in TASKS and TASKS[own].head == record.head
        num_labels = None if has_head and record.any_labels else record.new_labels
    new_labels = None if num_labels == len(config.labels) else num_labels  # of a new head
    if new_labels is not None:
        config = config.replace(labels=label_names(new_labels))
    elimination = _read_elimination(path, config.num_layers, task)
    Model(config, task, dtype=dtype, **elimination)  # refuses what cannot work before any reading
    tensors: Mapping[str, np.ndarray]
    tensors = gguf.read_tensors(path) if is_gguf else weights.read_tensors(folder)
    if layout and task == EMBEDDING.name:
        tensors = {**tensors, **layout.tensors()}
    config, tensors = config.fitted(tensors)
    model = Model(config, task, dtype=dtype, **elimination)
    if speaks and model.record is RANKING and len(config.labels) == 1:
        if answers is None and (answers := yes_and_no(token_ids(path))) is not None:
            log.warning(
                "%s writes text: ranked by its logit of 'yes' less that of 'no', as "
                "sentence-transformers reads it.", path,
            )  # fmt: skip
        if answers is not None:
            tensors = with_classifier(model.family, config, tensors, answers)
    if new_labels is not None and not convert.has_labels(model.head, tensors, new_labels):
        tensors = convert.without_head(model.head, tensors)
    params = convert.merge(
        model.family, model.head, param_shapes(model), tensors, dtype, seed,
        config.initializer_range, strict,
    )  # fmt: skip
    return model, params


def read_model(folder: Path) -> Model:
    """The model of a folder that this package wrote, without its parameters.

    Raises:
      ConfigError: a file that is missing or cannot be used.
    """
    config = config_from_hf(_read_config(folder))
    task = _saved_task(folder) or ""
    layout = read_layout(folder) if task == EMBEDDING.name else None
    if layout:
        config = config.replace(embedding=layout.embedding)
    return Model(config, task, **_read_elimination(folder, config.num_layers, task))


def language_model_task(source: str | os.PathLike) -> str:
    """The task of a checkpoint that writes text: its own, or the one that its family has.

    A config.json without architectures, or with those of a base model, does not say; what is taken
    then is logged.

    Raises:
      ConfigError, SourceError: a model that writes nothing, or none.
    """
    path = resolve(os.fspath(source))
    hf = _read_config(path)
    family = FAMILIES[config_from_hf(hf).model_type]
    own = _own_task(hf)
    if own is not None and TASKS[own].writes:
        return own
    writing = [name for name in tasks_of(family) if TASKS[name].writes]
    if own != FEATURES.name or not writing:
        what = own or ", ".join(hf["architectures"])
        raise ConfigError(f"{path} is a model for {what!r}; needed is a language model.")
    log.warning("%s names no head: read for %r; name another task=.", path, writing[0])
    return writing[0]


def _own_task(hf: Mapping, saved: str | None = None) -> str | None:
    """The task that a config's architectures name; None where it is not implemented.

    Args:
      saved: the task that elimination.json names: the one of several with the same head, unless
        config.json now says another.
    """
    names = hf.get("architectures") or ()
    if not isinstance(names, (list, tuple)):
        raise ConfigError(f"config.json: architectures must be a list; it is {names!r}.")
    if not names:
        return FEATURES.name
    heads = FAMILIES[hf["model_type"]].heads.items()
    kinds = {kind for kind, head in heads if any(head.is_named(str(name)) for name in names)}
    kind = hf.get("problem_type") or ""
    if saved in TASKS and TASKS[saved].head in kinds and TASKS[saved].problem_type == kind:
        return saved
    meant = (task.name for task in TASKS.values() if task.head in kinds and task.is_meant(hf))
    return next(meant, None)


def _saved_task(folder: Path) -> str | None:
    file = folder / "elimination.json"
    task = read_json(file).get("task") if file.is_file() else None
    return task if isinstance(task, str) else None


def _no_head(hf: Mapping) -> str:
    """Why a checkpoint with a head cannot be read as what it is."""
    heads = FAMILIES[hf["model_type"]].heads.values()
    known, names = dict.fromkeys(head.architecture for head in heads), hf["architectures"]
    fix = "name another task, e.g. task='features'"
    if any(head.is_named(str(name)) for head in heads for name in names):
        return f"problem_type {hf.get('problem_type')!r} is not implemented; {fix}."
    return (
        f"the head of {', '.join(map(str, names))} is not implemented ({', '.join(known)} are); "
        f"{fix}."
    )


def _read_config(path: Path) -> dict:
    """config.json, or what that of a GGUF file would hold.

    Its special tokens are those of generation_config.json where that names them, as Hugging Face
    prefers them; and what ends a text, where neither says, is what the tokenizer ends one with.
    """
    if path.suffix.lower() == ".gguf":
        return gguf.read_config(path)
    hf, file = read_json(path / "config.json"), path / "generation_config.json"
    generation = read_json(file) if file.exists() else {}
    keys = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
    hf |= {key: generation[key] for key in keys if generation.get(key) is not None}
    if (activation := read_activation(path)) is not None:  # where older versions had it
        marks = hf.get(MARK)
        hf[MARK] = {**(marks if isinstance(marks, Mapping) else {}), "activation_fn": activation}
    if hf.get("eos_token_id") is None and (end := eos_token_id(path)) is not None:
        hf["eos_token_id"] = end
    return hf


def _read_elimination(folder: Path, num_layers: int, task: str) -> dict:
    """What elimination.json says, but for a strategy that asks a head which the task has not."""
    file = folder / "elimination.json"
    if not file.exists():
        return {}
    values = read_json(file)
    try:
        if values["format"] != 1:
            raise ValueError(f"its format is {values['format']}, this version reads 1")
        profile = Profile.from_dict(values["profile"])
        if profile.num_layers != num_layers:
            raise ValueError(f"its profile has {profile.num_layers} layers, the model {num_layers}")
        check_alpha(values["alpha"])
        strategy = find(values.get("strategy", SCORE.name))
        if strategy.reads_head and not (task in TASKS and TASKS[task].per_token):
            instead = MERGE if strategy.merges else SCORE
            names = strategy.name, task, instead.name
            log.warning("%s: strategy %r asks a head that %r has not; %r is taken.", file, *names)
            strategy = instead
        removed_as = values.get("removed_as", REMOVED[0])
        check_removed_as(removed_as)
        protected = values.get("protected")
        if protected is not None:
            check_integer("protected", protected, 1)
        return {
            "alpha": values["alpha"], "profile": profile, "strategy": strategy.name,
            "removed_as": removed_as, "protected": protected,
        }  # fmt: skip
    except KeyError as error:
        raise ConfigError(f"{file} cannot be used: it has no {error}.") from None
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"{file} cannot be used: {reason}.") from None
