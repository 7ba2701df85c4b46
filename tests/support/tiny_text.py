"""Small texts and tokenizers that several test files share."""

import functools
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from latadj_jax.data.train_tokenizer import train_tokenizer

WORDS = "the of river old and king stone a small house was seen by many who lived near"


def story(seed: int, num_lines: int = 200) -> str:
    """Lines of random words, with the blank and the indented lines that corpora have."""
    rng = random.Random(seed)
    lines = [
        " ".join(rng.choices(WORDS.split(), k=rng.randint(3, 15))) + " ." for _ in range(num_lines)
    ]
    return "".join(line + rng.choice(["\n", "\n\n", " \n \n = "]) for line in lines)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@functools.cache
def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained on a story."""
    return train_tokenizer(story(0), 310)


@functools.cache
def metaspace() -> PreTrainedTokenizerFast:
    """Puts a "▁" before whatever it is given, as SentencePiece does."""
    vocabulary = {chr(n): n for n in range(127)} | {"▁": 127}
    merges = [("▁", "a"), ("b", "c")]
    vocabulary |= {"".join(merge): len(vocabulary) + n for n, merge in enumerate(merges)}
    bpe = Tokenizer(models.BPE(vocabulary, merges))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    bpe.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=bpe)
