"""Ahead-of-time programs that run without this library: one file per (padded length, alpha).

    folder/export.json             what each program is for
    folder/params.safetensors      the parameters, once for all programs
    folder/length128_alpha0.9.jax  a program: jax.export.deserialize(...).call(params, inputs)

Batch sizes stay open; a program compiles once for each that it meets.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from safetensors.flax import save_file
from tqdm import tqdm

from latadj_jax.elimination.alpha import alphas_of, slowest_first
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.elimination.strategies import find
from latadj_jax.extras import require
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.model.model import Model, check_params
from latadj_jax.tasks.registry import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLATFORMS = ("cpu", "cuda", "tpu")


def export_programs(
    folder: str | Path,
    model: Model,
    params,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    alphas: Sequence[float | None] = (),
    buckets: Sequence[int] = (),
    progress: bool = False,
) -> dict:
    """Writes programs of `jax.export`, one for each (padded length, alpha), for any batch size B.

    A program takes the parameters as a flat mapping from name to array, and the inputs [B, T]:
    int32, `attention_mask` bool. It returns a mapping: `logits` [B, C] ([B, T, C] where each token
    has an answer), `embedding` [B, D], or for "features" what `apply` returns.

    Args:
      folder: the folder to write; new or empty.
      tokenizer: the model's tokenizer. It is saved, too, and says which inputs there are.
      alphas: the alphas to export. Dense (None) and the model's own are always among them.
      buckets: padded lengths T; by default 16, 24, 32, 48, ... up to 128, or to what the model
        reads.

    Returns:
      What export.json says of them.

    Raises:
      ValueError: a folder that is not empty, or a model that cannot be exported.
    """
    require("export", "flatbuffers")
    folder = Path(folder)
    check_exported(folder, model)
    check_params(model, params)
    alphas = slowest_first((None, model.alpha, *alphas_of(alphas)))
    buckets = serving_buckets(buckets, model.config.max_positions)
    names = model.inputs_of(tokenizer)
    flat = flatten_dict(params, sep="/")

    about: dict[str, Any] = {
        "format": 1, "jax": jax.__version__, "task": model.task, "labels": model.config.labels,
        "dtype": model.dtype, "inputs": [*names, "attention_mask"], "programs": [],
    }  # fmt: skip
    with all_or_nothing(folder):
        tokenizer.save_pretrained(folder)
        save_file(flat, folder / "params.safetensors")
        wanted = [(length, alpha) for length in buckets for alpha in alphas]
        for length, alpha in tqdm(wanted, desc="export", unit="program", disable=not progress):
            plan = model.plan(alpha, length)
            file = f"{name_of(length, alpha)}.jax"
            (folder / file).write_bytes(_program(model, flat, names, plan).serialize())
            about["programs"].append(
                {"file": file, "length": length, "alpha": alpha,
                 "expected_speedup": expected_speedup(plan)}
            )  # fmt: skip
        (folder / "export.json").write_text(json.dumps(about, indent=1) + "\n")  # last
    return about


def name_of(length: int, alpha: float | None) -> str:
    """Of a program; an alpha in as few digits as 0.9 has, but all where fewer name another."""
    if alpha is None:
        return f"length{length}_dense"
    short = f"{alpha:g}" if float(f"{alpha:g}") == alpha else repr(float(alpha))
    return f"length{length}_alpha{short}"


@contextlib.contextmanager
def all_or_nothing(folder: Path) -> Iterator[None]:
    """Makes a folder that is new or empty, and leaves it so where what fills it fails."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if made:
            folder.rmdir()
        raise


def check_exported(folder: Path, model: Model) -> None:
    """Raises ValueError for what cannot be exported, or a folder that is in use."""
    if not model.record.outputs:
        exported = ", ".join(name for name, task in TASKS.items() if task.outputs)
        raise ValueError(f"models for {exported} can be exported; this one is for {model.task!r}.")
    if find(model.strategy).draws:
        raise ValueError(
            f"strategy {model.strategy!r} needs a key at each call; it is not exported."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; export into a new folder.")


def _program(model: Model, flat, names: Sequence[str], plan) -> export.Exported:
    def run(flat, inputs):
        params = unflatten_dict(flat, sep="/")
        out = model.module.apply({"params": params}, inputs, model.head_plan(plan))
        given = {name: getattr(out, name) for name in model.record.outputs}
        return {name: value for name, value in given.items() if value is not None}

    (batch,) = export.symbolic_shape("B")
    inputs = {name: jax.ShapeDtypeStruct((batch, plan.length), jnp.int32) for name in names}
    inputs["attention_mask"] = jax.ShapeDtypeStruct((batch, plan.length), bool)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat.items()}
    return export.export(jax.jit(run), platforms=PLATFORMS)(shapes, inputs)
