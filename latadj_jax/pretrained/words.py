"""Texts that come as lists of words: their token ids, and the word that each token is part of."""

from collections.abc import Sequence

import numpy as np

from latadj_jax.pretrained.tokenizers import check_fast, inputs_of, unread, without_surrogates


def encode_words(
    tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    truncate: bool,
    numbers: Sequence[int] | None = None,
) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    """Token ids of texts that are split into words, and which word each token is part of.

    Args:
      texts: the words of each, none of them empty.
      max_length, truncate, numbers: as of `encode`.

    Returns:
      the inputs of each text, as `encode` gives them; and int32 [tokens] of each: the number of the
      word (from 0), -1 for a special token. A word may have no token: one that the tokenizer drops,
      or that was cut.

    Raises:
      DataError: as of `encode`, or a tokenizer that does not say where its tokens come from.
    """
    check_fast(tokenizer, "tags")
    if not texts:
        return [], []
    texts = [tuple(map(without_surrogates, text)) for text in texts]
    numbers = range(len(texts)) if numbers is None else numbers
    options = {"is_split_into_words": True, "truncation": truncate,
               "max_length": max_length if truncate else None,
               "return_attention_mask": False, "verbose": False}  # fmt: skip
    space = " " if _spaces_are_of_words(tokenizer) else ""

    def read(text: tuple[str, ...]) -> list[str]:
        first, *others = text
        return [first, *(f"{space}{word}" for word in others)]

    try:
        encoded = tokenizer([read(text) for text in texts], **options)
    except Exception as error:  # bare, of one that lacks a character and has no unknown token
        one_by_one = unread(lambda text: tokenizer(read(text), **options), texts, numbers)
        raise one_by_one or error from None
    examples = inputs_of(encoded, texts, max_length, "max_length", numbers)
    words = [
        np.array([-1 if word is None else word for word in encoded.word_ids(n)], np.int32)
        for n in range(len(texts))
    ]
    return examples, words


def starts_of(words_T: np.ndarray, num_words: int) -> np.ndarray:
    """The first token of each word, int32 [num_words]; -1 for a word that has none.

    >>> starts_of(np.array([-1, 0, 0, 2, -1]), 4).tolist()
    [1, -1, 3, -1]
    """
    starts = np.full(num_words, -1, np.int32)
    last_to_first = np.flatnonzero(words_T >= 0)[::-1]
    starts[words_T[last_to_first]] = last_to_first  # the last that is written stays
    return starts


def _spaces_are_of_words(tokenizer) -> bool:
    """Whether the space before a word is part of its token, and not put there by the tokenizer.

    So it is with the byte-level vocabularies of GPT-2 and RoBERTa, which would read words without
    their spaces as one long word.
    """
    try:
        whole, bare, spaced = (
            tokenizer(text, is_split_into_words=isinstance(text, list), verbose=False)["input_ids"]
            for text in ("a a", ["a", "a"], ["a", " a"])
        )
    except Exception:  # bare, of one without that letter
        return False
    return whole != bare and whole == spaced
