"""Tokenizers of checkpoints, and texts as token ids."""

from collections.abc import Sequence

import numpy as np

from latadj_jax.errors import DataError
from latadj_jax.pretrained import sources
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")


def load_tokenizer(source: str):
    """The Hugging Face tokenizer of a model source (see `sources.resolve`); needs no torch.

    Raises:
      DataError: no tokenizer files, or broken ones.
    """
    folder = sources.resolve(source)
    if folder.suffix == ".gguf":
        return read_tokenizer(folder)
    # Without vocabulary files transformers makes an empty tokenizer, silently.
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise DataError(
            f"{source!r} has no tokenizer; needed is one of: {', '.join(_TOKENIZER_FILES)}."
        )
    from transformers import AutoTokenizer  # slow to import

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise DataError(
            f"The tokenizer of {source!r} cannot be read ({sources.reason(error)})."
        ) from None


def encode(
    tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    truncate: bool,
    setting: str = "max_length",
    numbers: Sequence[int] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Token ids of each text or pair: `input_ids` and, if the tokenizer has them, `token_type_ids`.

    Each is int32 [length], special tokens included, not padded. With `truncate`, texts are cut to
    `max_length` tokens (the longer one of a pair first). Errors call each text by its number in
    `numbers`, or by its place.

    Raises:
      DataError: a text of more than `max_length` tokens without `truncate`, or one of no tokens.
    """
    if not texts:
        return []
    encoded = tokenizer(
        *(list(column) for column in zip(*texts, strict=True)),
        truncation=truncate,
        max_length=max_length if truncate else None,
        return_attention_mask=False,
        verbose=False,
    )
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    numbers = range(len(texts)) if numbers is None else numbers
    if lengths.max() > max_length:
        too_long = np.flatnonzero(lengths > max_length)
        first = too_long[0]
        begins = next(filter(None, (text.strip()[:40] for text in texts[first])), "")
        raise DataError(
            f"{len(too_long)} of {len(texts)} texts are longer than config.data.{setting} "
            f"({max_length} tokens): the longest has {lengths.max()}, the first is example "
            f"{numbers[first]} (from 0), which begins with {begins!r}; raise it, or set "
            f"config.data.truncate=True to cut them."
        )
    if not lengths.all():
        raise DataError(f"Example {numbers[lengths.argmin()]} (from 0) has no tokens.")
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    columns = [[np.array(ids, np.int32) for ids in encoded[key]] for key in keys]
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def encode_text(tokenizer, text: str) -> np.ndarray:
    """The text as one stream of token ids, int32 [n], without special tokens around it.

    Encoded whole, since no cut is harmless for every tokenizer ("\\n\\n" may be one token, and
    some put a space before whatever they are given).
    """
    encoded = tokenizer(
        text, add_special_tokens=False, return_attention_mask=False, verbose=False
    )  # not verbose: no warning that a whole corpus is longer than a model's input
    return np.array(encoded["input_ids"], np.int32)


def check_vocabulary(tokenizer, vocab_size: int) -> None:
    """Raises DataError if the tokenizer has ids that a model of `vocab_size` tokens has not."""
    highest = max(tokenizer.get_vocab().values())
    if highest >= vocab_size:
        raise DataError(
            f"The tokenizer's highest id is {highest}, but the model's vocab_size is {vocab_size}; "
            f"use the model's own tokenizer, or a model of at least {highest + 1} tokens."
        )
