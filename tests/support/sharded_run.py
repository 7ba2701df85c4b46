"""20 steps of a tiny model on a mesh, as a function and as a process of several.

    python tests/support/sharded_run.py FAMILY DATAxFSDPxTENSOR COORDINATOR NUM_PROCESSES PROCESS_ID

prints the losses as JSON.
"""

import contextlib
import json
import os
import sys

if __name__ == "__main__":
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}

import jax
import numpy as np
import tiny

from latadj_jax.devices import param_specs
from latadj_jax.devices.mesh import fetch, make_mesh, own_rows, place_own_rows
from latadj_jax.training.optimizer import make_optimizer
from latadj_jax.training.settings import TrainSettings
from latadj_jax.training.steps import Step, first_state, train_step

BATCH, LENGTH, STEPS = 8, 16, 20
ONE_DEVICE = (1, 1, 1)
TASKS = {
    "bert": "classification", "deberta-v2": "classification", "gpt2": "lm", "llama": "lm",
    "t5": "seq2seq", "gemma3_text": "lm", "modernbert": "classification",
    "mpnet": "classification",
}  # fmt: skip


def model_of(family: str):
    """A model whose sizes every mesh divides, at dropout 0.1."""
    sizes = {"llama": {"head_dim": 8}, "t5": {"d_kv": 8}}.get(family, {})
    model = tiny.make_model(family, TASKS[family], num_hidden_layers=2, vocab_size=96, **sizes)
    return model.replace(config=model.config.with_dropout(0.1))


def batch_of(family: str, step: int) -> dict[str, np.ndarray]:
    """Ragged texts, the last row only a filler."""
    rng = np.random.default_rng(step)
    lengths = rng.integers(6, LENGTH + 1, BATCH)
    batch = {
        "input_ids": rng.integers(1, 96, (BATCH, LENGTH)).astype(np.int32),
        "attention_mask": np.arange(LENGTH)[None, :] < lengths[:, None],
        "labels": rng.integers(0, 3, BATCH).astype(np.int32),
        "weights": (np.arange(BATCH) < BATCH - 1).astype(np.float32),
    }
    if family == "t5":
        batch["labels"] = rng.integers(1, 96, (BATCH, 6)).astype(np.int32)
        batch["labels"][:, 4:] = -1
    return batch


def on_mesh(sizes):
    mesh = make_mesh(*sizes)
    return jax.set_mesh(mesh) if mesh.size > 1 else contextlib.nullcontext()


def step_of(family: str, strategy: str = "score", **options) -> Step:
    model = model_of(family).replace(strategy=strategy)
    optimizer = make_optimizer(TrainSettings(learning_rate=3e-3), STEPS)
    return Step(model, optimizer, (model.plan(0.9, LENGTH),), **options)


def placed_params(model):
    """The same parameters whatever the mesh, each part where it belongs."""
    place = param_specs.placer("float32")
    return jax.tree.map_with_path(
        lambda path, x: place(tuple(key.key for key in path), np.asarray(x)),
        tiny.random_params(model),
    )


def run(family: str, sizes, steps: int = STEPS, **options):
    """(losses, final state) of so many steps; inside of the mesh of `sizes`."""
    with on_mesh(sizes):
        what = step_of(family, **options)
        state = first_state(what.model, what.optimizer, placed_params(what.model))
        key, losses, own = jax.random.key(0, impl="threefry2x32"), [], own_rows(BATCH)
        for n in range(steps):
            rows = {name: array[own] for name, array in batch_of(family, n).items()}
            state, loss = train_step(what, state, place_own_rows(rows, BATCH), key)
            losses.append(float(fetch(loss)))
        return losses, state


if __name__ == "__main__":
    from latadj_jax.devices.processes import join

    family, sizes, coordinator, num_processes, process_id = sys.argv[1:]
    join(coordinator, int(num_processes), int(process_id))
    losses, _ = run(family, tuple(map(int, sizes.split("x"))))
    print(json.dumps(losses))
