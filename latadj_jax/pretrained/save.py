"""Saving a model: one folder that Hugging Face loads, with the profile and default alpha beside."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from safetensors.numpy import save_file

from latadj_jax.devices.processes import first_alone
from latadj_jax.model.model import Model, check_model, check_params
from latadj_jax.pretrained import convert
from latadj_jax.pretrained.json_files import write_json
from latadj_jax.pretrained.sentence_transformers import MODULES, write_modules
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.registry import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save_pretrained(
    path: str | os.PathLike,
    model: Model,
    params,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> None:
    """Saves a model as one folder: config.json, model.safetensors, elimination.json.

    Hugging Face loads config and weights from it. `from_pretrained` loads the profile, the strategy
    and the default alpha, too. Earlier weights in the folder are replaced only once everything is
    written; its other files stay. With several processes, all must call it, and the first writes.

    Args:
      path: the folder.
      tokenizer: a tokenizer of transformers, to save beside the model.

    Raises:
      ValueError: `path` is a file, `params` are not this model's, or `tokenizer` is not one.
      OSError: the disk is full or the folder cannot be written; what was there is still there.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; save_pretrained needs a folder.")
    check_model(model)
    check_params(model, params)
    if not (tokenizer is None or hasattr(tokenizer, "save_pretrained")):
        raise ValueError(f"tokenizer must be one of transformers; it is {tokenizer!r}.")
    dtype = str(jax.tree.leaves(params)[0].dtype)
    tensors = convert.to_tensors(model.family, model.record.head, params)
    first_alone(lambda: _write(path, model, dtype, tensors, tokenizer))


def _write(path: Path, model: Model, dtype: str, tensors, tokenizer) -> None:
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # Inside of it: on the same disk whatever `path` is, a link or a mount point.
    new = Path(tempfile.mkdtemp(prefix=".saving-", dir=path))
    try:
        tensors = write_description(new, model, dtype, tensors, tokenizer)
        save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
        # safetensors writes for the owner alone; as readable as the other files are.
        (new / "model.safetensors").chmod((new / "config.json").stat().st_mode)
        _move_in(sorted(new.iterdir()), path, Path(tempfile.mkdtemp(dir=new)))
        made = []
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def write_description(folder: Path, model: Model, dtype: str, tensors, tokenizer) -> dict:
    """Writes all but the weights, and gives those that are still to be written.

    Args:
      tensors: as `convert.to_tensors` gives them.
      tokenizer: None writes none.
    """
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if model.config.embedding is not None and model.task == EMBEDDING.name:
        steps = {name: t for name, t in tensors.items() if name.startswith("dense_")}
        tensors = {name: t for name, t in tensors.items() if name not in steps}
        write_modules(folder, model.config.embedding, model.config.hidden_size, steps)
    write_json(folder / "elimination.json", _elimination(model))
    write_json(folder / "config.json", _hf_config(model, dtype))
    return tensors


def _move_in(files: list[Path], path: Path, old: Path) -> None:
    """Moves `files` into `path`, and what they replace to `old`; all of it, or nothing."""
    shards = path.glob("model-[0-9]*-of-[0-9]*.safetensors")  # theirs is model.safetensors no more
    # Without these, a folder of sentence-transformers is a plain one.
    names = {"model.safetensors", "model.safetensors.index.json", MODULES, *(f.name for f in files)}
    replaced = {*shards, *(path / name for name in names if (path / name).exists())}
    moves = [(f, old / f.name) for f in sorted(replaced)] + [(f, path / f.name) for f in files]
    done = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _hf_config(model: Model, dtype: str) -> dict:
    hf = model.config.to_hf()
    hf["architectures"] = [model.head.architecture]
    hf["dtype"] = dtype
    hf.pop("torch_dtype", None)  # the older name of dtype
    for key in ("problem_type", *{key for task in TASKS.values() for key in task.marked_by}):
        hf.pop(key, None)  # of the task that it was read as
    if model.record.problem_type:
        hf["problem_type"] = model.record.problem_type
    return {**hf, **model.record.marks(model.config)}


def _elimination(model: Model) -> dict:
    return {
        "format": 1,
        "alpha": model.alpha,
        "strategy": model.strategy,
        "task": model.task,
        "removed_as": model.removed_as,
        "protected": model.protected,
        "profile": model.profile.to_dict(),
    }
