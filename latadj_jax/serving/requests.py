"""What is asked of an engine: texts, pairs of texts or token ids, as examples."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from latadj_jax.errors import TextError, TooLongError
from latadj_jax.families.embedding import PROMPT
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import encode
from latadj_jax.tasks.task import Task


def encode_requests(
    tokenizer,
    texts: Sequence,
    *,
    keys: Sequence[str],
    ranges: Mapping[str, int],
    max_length: int,
    truncate: bool,
    prompt: str | None = None,
    reads_pairs: bool = False,
) -> list[dict[str, np.ndarray]]:
    """The inputs `keys` of each text, unpadded, in order: int32 [length].

    Args:
      texts: each a string, a pair of strings, or a sequence of token ids.
      ranges: how many values each input can take.
      prompt: of an embedding model, which reads no pairs: what is put before each string.
      reads_pairs: whether the model reads pairs alone.

    Raises:
      ValueError: what is none of these, holds ids that the model does not know, or is longer than
        `max_length` without `truncate`.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts; it is one string.")
    texts = list(texts)  # a column of a table may be indexed by names
    examples: list = [None] * len(texts)
    numbers_of: dict[int, list[int]] = {1: [], 2: []}  # by how many strings a text has
    for n, text in enumerate(texts):
        strings = _strings(text)
        if len(strings) > 1 and prompt is not None:
            raise TextError(n, "is a pair; an embedding model reads one text at a time.")
        if len(strings) == 1 and reads_pairs:
            raise TextError(n, "is a single text; this model reads pairs of texts.")
        if prompt and strings and not strings[0].strip():
            raise TextError(n, "is only the prompt: there is nothing to embed.")
        if strings:
            numbers_of[len(strings)].append(n)
        else:
            examples[n] = _from_ids(text, n, keys, max_length if truncate else None)
    at_most = max_length if truncate else sys.maxsize  # what is longer is refused below, by number
    for numbers in numbers_of.values():
        encoded = encode(
            tokenizer,
            [tuple(f"{prompt or ''}{part}" for part in _strings(texts[n])) for n in numbers],
            at_most, truncate, numbers=numbers, mark_first=PROTECTED in keys,
        )  # fmt: skip
        asked = prompt_length(tokenizer, prompt) if prompt and PROMPT in keys else 0
        for n, example in zip(numbers, encoded, strict=True):
            example[PROMPT] = first_tokens(asked, example)
            examples[n] = {key: example[key] for key in keys}
    return checked(examples, ranges, max_length)


def checked(
    examples: Sequence[Mapping[str, np.ndarray]], ranges: Mapping[str, int], max_length: int
) -> list[dict[str, np.ndarray]]:
    """The inputs as int32, if the model knows their ids and there is a bucket for them.

    Raises:
      TextError: the first text of which that is not so.
    """
    check_ids(examples, ranges)  # before they are int32, which would wrap
    for n, example in enumerate(examples):
        if (length := len(example["input_ids"])) > max_length:
            raise TooLongError(
                n,
                f"has {length} tokens, the largest bucket {max_length}: add a larger bucket, or "
                f"truncate=True to cut such texts.",
            )
    return [{key: ids.astype(np.int32) for key, ids in e.items()} for e in examples]


def check_task(model: Model, task: Task, does: str) -> None:
    """Raises ValueError for a model of another task; `does` is what it was asked to do."""
    if model.record is not task:
        raise ValueError(f"a model {does} with task {task.name!r}; this is for {model.task!r}.")


def first_tokens(number: int, example: Mapping[str, np.ndarray]) -> np.ndarray:
    """1 for so many of its first tokens, 0 for the others: int32 [length]."""
    return (np.arange(len(example["input_ids"])) < number).astype(np.int32)


def prompt_length(tokenizer, prompt: str) -> int:
    """Tokens that a prompt has at the beginning of a text, special ones in front included.

    Source: sentence-transformers 6, which counts it in this way.
    """
    ids = tokenizer(prompt, verbose=False)["input_ids"]
    return len(ids) - (bool(ids) and ids[-1] in tokenizer.all_special_ids)


def _strings(text) -> tuple[str, ...]:
    """A string, or a pair of them, as a tuple; empty for anything else."""
    if isinstance(text, str):
        return (text,)
    pair = isinstance(text, (tuple, list)) and len(text) == 2
    return tuple(text) if pair and all(isinstance(part, str) for part in text) else ()


def _from_ids(text, n: int, keys, cut: int | None) -> dict[str, np.ndarray]:
    ids = np.asarray(text)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or not len(ids):
        raise TextError(n, "must be a string, a pair of strings or a row of token ids.")
    ids = ids[:cut]
    return {key: ids if key == "input_ids" else np.zeros_like(ids) for key in keys}
