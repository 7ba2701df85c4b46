"""Tiny models with random weights, and batches for them; what several test files share.

A family of models is tested by its line in FAMILIES.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import oracle

import latadj_jax
from latadj_jax.families.pooling import Embedding, NormalizeStep
from latadj_jax.families.registry import FAMILIES as RECORDS
from latadj_jax.families.registry import config_from_hf
from latadj_jax.model.model import param_shapes
from latadj_jax.tasks.registry import TASKS as TASK_RECORDS
from latadj_jax.training import losses

VOCAB = 100
# Two query heads to a key-value head, heads wider than hidden_size / heads, fast rotation.
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    "pad_token_id": 0,
}
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
    },
    # 40 tokens, whose positions begin at 2.
    "roberta": {
        "model_type": "roberta",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 42,
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": VOCAB,
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 40,
    },
    "electra": {
        "model_type": "electra",
        "vocab_size": VOCAB,
        "embedding_size": 24,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    },
    # One layer three times.
    "albert": {
        "model_type": "albert",
        "vocab_size": VOCAB,
        "embedding_size": 24,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    },
    # 40 tokens, whose positions begin at 2.
    "mpnet": {
        "model_type": "mpnet",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 42,
    },
    # One global layer, two local ones, where a token sees three to each side; fast rotation.
    "modernbert": {
        "model_type": "modernbert",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "local_attention": 6,
        "global_rope_theta": 50.0,
        "local_rope_theta": 10.0,
        "pad_token_id": 0,
    },
    # As every v3; distances from 5 on share a bucket with others.
    "deberta-v2": {
        "model_type": "deberta-v2",
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 48,
        "n_positions": 40,
        "pad_token_id": 0,
    },
    "llama": {**LLAMA, "model_type": "llama"},
    # Its relatives: the last two of three layers see a window, shorter than a batch;
    "qwen2": {
        **LLAMA,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {**LLAMA, "model_type": "qwen3"},
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 6},
    # its second layer rotates nothing.
    "smollm3": {
        **LLAMA,
        "model_type": "smollm3",
        "no_rope_layer_interval": 2,
        "tie_word_embeddings": False,
    },
    # The second of three layers sees the whole text, and rotates otherwise.
    "gemma3_text": {
        **LLAMA,
        "model_type": "gemma3_text",
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 50.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        },
        "sliding_window": 5,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 20,
    },
    # Heads wider than d_model / num_heads; the last bucket of distances begins within a batch.
    "t5": {
        "model_type": "t5",
        "vocab_size": VOCAB,
        "d_model": 32,
        "d_kv": 12,
        "d_ff": 48,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    },
}
CAUSAL = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "smollm3", "gemma3_text")
BERTS = ("bert", "roberta", "distilbert", "electra", "albert", "mpnet")
ENCODERS = (*BERTS, "modernbert", "deberta-v2")  # whose heads read the first token
# Those of other tasks have the same network: "multi-label" and "ranking" that of a classification.
TASKS = {
    **dict.fromkeys(
        ENCODERS,
        (
            "features",
            "classification",
            "regression",
            "token-classification",
            "question-answering",
        ),
    ),
    "gpt2": ("features", "lm", "classification", "regression"),
    "llama": ("features", "lm", "classification", "regression"),
    "qwen2": ("lm", "classification"),  # of Llama's module, as those that follow
    "qwen3": ("features", "lm", "classification"),
    "mistral": ("lm", "classification"),
    "smollm3": ("lm", "classification"),
    "gemma3_text": ("features", "lm", "classification", "regression"),
    "t5": ("features",),  # "seq2seq" has targets: test_t5.py
}
_FIRST = {RECORDS[family].module: family for family in reversed(FAMILIES)}
# Those that are records over another's module: their heads have no code of their own to test twice.
KIN = tuple(family for family in FAMILIES if _FIRST[RECORDS[family].module] != family)
LABELS = {
    "features": 2,
    "embedding": 2,
    "lm": 2,
    "seq2seq": 2,
    "classification": 3,
    "multi-label": 3,
    "ranking": 1,
    "regression": 1,
    "token-classification": 3,
    "question-answering": 2,
}
# GPT-2's own names for what the other families call alike; transformers takes both.
ALIASES = {
    "distilbert": {"num_hidden_layers": "n_layers"},
    "gpt2": {"num_hidden_layers": "n_layer", "max_position_embeddings": "n_positions"},
    "t5": {"num_hidden_layers": "num_layers"},
}


def main_task(family: str) -> str:
    """The task that goes through all of a test; others differ in the head only."""
    return "features" if family == "t5" else "classification"


def changes_of(family: str, task: str) -> dict:
    """One layer is enough where only the head is new."""
    return {} if task == main_task(family) else {"num_hidden_layers": 1}


T5S = ("t5", "mt5", "umt5")
# T5 does not scale attention logits: as in its checkpoints, its queries are small instead.
T5_QUERIES = 4

# Layer 2 removes nothing at alpha 1, so that a layer without a cut lies between two that cut.
PROFILE = latadj_jax.Profile(rates=(0.7, 1.0, 0.6))


def hf_config(family: str = "bert", task: str = "features", **changes) -> dict:
    """What config.json of a tiny model holds."""
    names = {str(i): f"name-{i}" for i in range(LABELS[task])}
    aliases = ALIASES.get(family, {})
    changes = {aliases.get(key, key): value for key, value in changes.items()}
    return {
        **FAMILIES[family],
        "architectures": [RECORDS[family].heads[TASK_RECORDS[task].head].architecture],
        "id2label": names,
        "label2id": {name: int(i) for i, name in names.items()},
        **changes,
    }


def make_model(family: str = "bert", task: str = "features", **changes) -> latadj_jax.Model:
    """A tiny model; `changes` to its config.json, e.g. fewer layers for what compiles often."""
    config = config_from_hf(hf_config(family, task, **changes))
    if task == "embedding":
        config = config.replace(embedding=Embedding(steps=(NormalizeStep(),)))
    profile = latadj_jax.Profile(PROFILE.rates[: config.num_layers])
    return latadj_jax.Model(config, task, profile if config.num_layers <= 3 else None)


def draw(leaf: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random weights of a size at which attention is far from uniform and every bias matters."""
    mean, std = {"kernel": (0, 0.3), "embedding": (0, 1), "scale": (1, 0.2), "bias": (0, 0.2)}[leaf]
    return rng.normal(mean, std, shape).astype(np.float32)


def random_params(model: latadj_jax.Model, seed: int = 0):
    """Parameters of `model`, drawn by NumPy so that they are the same under every version."""
    rng = np.random.default_rng(seed)
    shapes = param_shapes(model)

    def drawn(path, leaf):
        array = draw(path[-1].key, leaf.shape, rng)
        if model.config.model_type in T5S and path[-2].key in ("query", "cross_query"):
            array /= T5_QUERIES
        return jnp.asarray(array)

    return jax.tree.map_with_path(drawn, shapes)


@functools.cache
def make(family: str = "bert", task: str = "features", **changes):
    """A tiny model and its parameters."""
    model = make_model(family, task, **changes)
    return model, random_params(model)


def example(length: int, seed: int = 0, family: str = "bert") -> dict[str, np.ndarray]:
    """One unpadded example: for BERT, a first segment and a second."""
    rng = np.random.default_rng([length, seed])
    ids = rng.integers(1, VOCAB, length).astype(np.int32)
    if family != "bert":
        return {"input_ids": ids}
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


PADDINGS = {
    "right": lambda n, length: np.arange(n),
    "left": lambda n, length: np.arange(length - n, length),
    "both sides": lambda n, length: np.arange(n) + (length - n) // 2,
}


def padded(examples, padding: str, length: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """A batch with all its padding on one side (or on both), and the slots in use."""
    slots = [PADDINGS[padding](len(e["input_ids"]), length) for e in examples]
    return lay_out(examples, slots, length, filling=7), slots


def mixed_batch(family: str = "bert") -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Rows without padding, padded right, padded left, and with holes; and the slots in use.

    In a row of a causal family the padding id stands where no token is, and only there: its
    Hugging Face heads find the last token by that.
    """
    holes = np.array([1, 2, 4, 5, 6, 9, 10, 13, 14])
    slots = [np.arange(16), np.arange(9), np.arange(9, 16), holes]
    examples = [example(len(at), seed, family) for seed, at in enumerate(slots)]
    return lay_out(examples, slots, length=16), slots


def continuation(length=5, seed=0):
    """Token ids to read on after four prompts."""
    return np.random.default_rng(seed).integers(1, VOCAB, (4, length)).astype(np.int32)


def kept_at(alpha):
    """How many of n word-vectors each layer should leave; None is dense."""
    return oracle.kept_by_formula([min(1.0, (alpha or 9.0) * ep) for ep in PROFILE.rates])


def mean_loss(model, params, batch, plan, rngs):
    """What training makes small."""
    outcome = losses.outcome(model, params, batch, plan, True, rngs)
    return model.record.total_loss(outcome) / model.record.weight(batch, plan)


def save(folder, task, **changes):
    """A saved tiny BERT with its config.json edited; None takes a key out."""
    latadj_jax.save_pretrained(folder, *make("bert", task))
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def same_params(params, other) -> bool:
    """Whether two trees have the same names and the same numbers."""
    return jax.tree.structure(params) == jax.tree.structure(other) and all(
        jax.tree.leaves(jax.tree.map(np.array_equal, params, other))
    )
