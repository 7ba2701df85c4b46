"""Tiny models with random weights, and batches for them; what several test files share.

A family of models is tested by its line in FAMILIES.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import latadj_jax
from latadj_jax.config import config_from_hf

VOCAB = 100
FAMILIES = {
    "bert": {
        "model_type": "bert",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "type_vocab_size": 2,
    }
}
TASKS = {"bert": ("features", "classification", "regression")}
LABELS = {"features": 2, "classification": 3, "regression": 1}

# Layer 2 removes nothing at alpha 1, so that a layer without a cut lies between two that cut.
PROFILE = latadj_jax.Profile(rates=(0.7, 1.0, 0.6))


def hf_config(family: str = "bert", task: str = "features", **changes) -> dict:
    """What config.json of a tiny model holds."""
    names = {str(i): f"name-{i}" for i in range(LABELS[task])}
    return {
        **FAMILIES[family],
        "architectures": ["BertModel" if task == "features" else "BertForSequenceClassification"],
        "id2label": names,
        "label2id": {name: int(i) for i, name in names.items()},
        **changes,
    }


def make_model(family: str = "bert", task: str = "features", **changes) -> latadj_jax.Model:
    """A tiny model; `changes` to its config.json, e.g. fewer layers for what compiles often."""
    config = config_from_hf(hf_config(family, task, **changes))
    profile = latadj_jax.Profile(PROFILE.rates[: config.num_layers])
    return latadj_jax.Model(config, task, profile)


def draw(leaf: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random weights of a size at which attention is far from uniform and every bias matters."""
    mean, std = {"kernel": (0, 0.3), "embedding": (0, 1), "scale": (1, 0.2), "bias": (0, 0.2)}[leaf]
    return rng.normal(mean, std, shape).astype(np.float32)


def random_params(model: latadj_jax.Model, seed: int = 0):
    """Parameters of `model`, drawn by NumPy so that they are the same under every version."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(functools.partial(latadj_jax.init_params, model))
    return jax.tree.map_with_path(
        lambda path, leaf: jnp.asarray(draw(path[-1].key, leaf.shape, rng)), shapes
    )


@functools.cache
def make(family: str = "bert", task: str = "features", **changes):
    """A tiny model and its parameters."""
    model = make_model(family, task, **changes)
    return model, random_params(model)


def example(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """One unpadded example: a first segment and a second."""
    rng = np.random.default_rng([length, seed])
    ids = rng.integers(1, VOCAB, length).astype(np.int32)
    return {"input_ids": ids, "token_type_ids": (np.arange(length) > length // 2).astype(np.int32)}


def lay_out(examples, slots, length: int, filling: int = 0) -> dict[str, np.ndarray]:
    """A batch with the tokens of example b at `slots[b]` of row b, and padding everywhere else.

    Args:
      filling: the id that padding has; no output may depend on it.
    """
    batch = {key: np.full((len(examples), length), filling % 2, np.int32) for key in examples[0]}
    batch["input_ids"][:] = filling
    batch["attention_mask"] = np.zeros((len(examples), length), np.int32)
    for row, (tokens, at) in enumerate(zip(examples, slots, strict=True)):
        for key, values in tokens.items():
            batch[key][row, np.asarray(at)] = values
        batch["attention_mask"][row, np.asarray(at)] = 1
    return batch


def mixed_batch() -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Rows without padding, padded right, padded left, and with holes; and the slots in use."""
    holes = np.array([1, 2, 4, 5, 6, 9, 10, 13, 14])
    slots = [np.arange(16), np.arange(9), np.arange(9, 16), holes]
    examples = [example(len(at), seed) for seed, at in enumerate(slots)]
    return lay_out(examples, slots, length=16), slots
