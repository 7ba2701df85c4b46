"""A whole tiny run: a random model with a tokenizer, and a CSV whose label one word decides."""

import random
from pathlib import Path

import tiny
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.training.settings import Settings, from_config

WORDS = [f"word{n}" for n in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer(folder: Path) -> BertTokenizer:
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join([*SPECIAL, "good", "bad", *WORDS]))
    return BertTokenizer(str(vocab))


def source(folder: Path, num_layers: int = 3) -> str:
    """A model folder: tiny BERT with random weights, and its tokenizer."""
    model = tiny.make_model(num_hidden_layers=num_layers)
    vocabulary = tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, tiny.random_params(model), vocabulary)
    return str(folder / "model")


def csv(folder: Path, rows: int = 120) -> str:
    """Texts of 3 to 20 words; the word "good" or "bad" among them is the label."""
    rng = random.Random(0)
    lines = ["text,label"]
    for n in range(rows):
        label = ("good", "bad")[n % 2]
        words = rng.sample(WORDS, rng.randint(2, 19))
        words.insert(rng.randint(0, len(words)), label)
        lines.append(f"{' '.join(words)},{label}")
    file = folder / "texts.csv"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def config(folder: Path, num_layers: int = 3, **changes) -> dict:
    """Settings of a run of some seconds, as a nested dict; `changes` are per section."""
    values = {
        "workdir": str(folder / "runs" / "tiny"),
        "model": {"source": source(folder, num_layers)},
        "data": {"path": csv(folder), "max_length": 24, "buckets": (24,), "eval_fraction": 0.2},
        "elimination": {"alpha": 0.9, "calibration_examples": 32},
        "train": {"batch_size": 8, "max_steps": 12, "learning_rate": 1e-2, "log_every": 2},
        "mesh": {"data": 1},
        "eval": {"alphas": (0.9, 0.7), "batch_size": 16, "timing_repeats": 1},
    }
    return changed(values, changes)


def seq2seq_config(folder: Path, **changes) -> dict:
    """Settings of a T5 from scratch that writes the word of a text that is "good" or "bad"."""
    scratch = {"vocab_size": 330, "hidden_size": 32, "num_layers": 2, "num_decoder_layers": 1,
               "num_heads": 2}  # fmt: skip
    values = {
        "workdir": str(folder / "runs" / "tiny"),
        "model": {"source": "", "task": "seq2seq", "dropout": 0.0, "scratch": scratch},
        "data": {"path": csv(folder), "max_length": 64, "max_target_length": 8,
                 "buckets": (64,), "eval_fraction": 0.2, "truncate": True},
        "elimination": {"alpha": 0.8, "calibration_examples": 0},
        "train": {"batch_size": 16, "max_steps": 60, "learning_rate": 1e-2, "log_every": 5},
        "mesh": {"data": 1},
        "eval": {"metrics": ("exact_match", "bleu"), "alphas": (0.8,), "batch_size": 16,
                 "timing_repeats": 1},
    }  # fmt: skip
    return changed(values, changes)


def changed(values: dict, changes: dict) -> dict:
    """Settings with those of `changes`, which are per section."""
    for section, change in changes.items():
        values[section] = {**values[section], **change} if isinstance(change, dict) else change
    return values


def settings(folder: Path, num_layers: int = 3, **changes) -> Settings:
    return from_config(config(folder, num_layers, **changes))
