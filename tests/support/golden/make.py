"""Writes dense.json: what Hugging Face's torch models give, to be compared with where torch is not.

    pip install '.[parity]'
    PYTHONPATH=.:tests/support python tests/support/golden/make.py

To be run again where the tiny models of tests/support/tiny.py change, and only then.
"""

import json
import tempfile
from pathlib import Path

import tiny

import latadj_jax

FILE = Path(__file__).parent / "dense.json"


def few(array, valid) -> list:
    """Some numbers of [B, T, ...], 0 where no token is; all of [B, C]."""
    if array.ndim == 2:
        return array.tolist()
    return (array * valid[:, :, None])[:, ::5, ::9].tolist()


def golden(family: str, task: str) -> dict:
    import torch_models  # whose models need torch

    model, params = tiny.make(family, task)
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        theirs = torch_models.hf_class(task, family).from_pretrained(folder)
    batch, _ = tiny.mixed_batch(family)
    hidden, _, logits = torch_models.run_torch(theirs, batch)
    valid = batch["attention_mask"] > 0
    found = {"hidden": few(hidden, valid)}
    return found if logits is None else {**found, "logits": few(logits, valid)}


if __name__ == "__main__":
    kinds = [(family, task) for family in tiny.FAMILIES for task in tiny.TASKS[family]]
    every = {f"{family} {task}": golden(family, task) for family, task in kinds}
    FILE.write_text(json.dumps(every, indent=0) + "\n")
