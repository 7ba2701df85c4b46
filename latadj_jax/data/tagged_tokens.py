"""Token ids of texts that are lists of words; the first token of a word has its tag."""

import dataclasses
import logging

import numpy as np

from latadj_jax.data.encoded import Encoded
from latadj_jax.data.labelled_examples import Examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.pretrained.words import encode_words, starts_of

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class TaggedTokens(Encoded):
    """`Encoded`, with int32 labels [N, T] of tokens: the tag of the word that begins there, or -1.

    Attributes:
      starts: of each text the first token of each word, int32 [words]; -1 for a word without any,
        because it was cut or the tokenizer drops its characters.
    """

    labels_of: str = "token"
    starts: tuple[np.ndarray, ...] = ()


def encode_tagged(tokenizer, examples: Examples, data: DataSettings) -> TaggedTokens:
    """Token ids of `examples`, cut or refused at `data.max_length`; a warning says what is cut."""
    ids, words = encode_words(tokenizer, examples.texts, data.max_length, data.truncate)
    labels_NT = np.full((len(ids), data.max_length), -1, np.int32)
    starts, cut, unread = [], 0, 0
    for n, (words_T, text) in enumerate(zip(words, examples.texts, strict=True)):
        starts_W = starts_of(words_T, len(text))
        starts.append(starts_W)
        missing = int((starts_W < 0).sum())
        is_full = len(words_T) == data.max_length
        behind = len(text) - 1 - int(words_T.max()) if is_full else 0  # what was cut off
        cut, unread = cut + behind, unread + missing - behind
        if examples.labels.dtype == object:
            labels_NT[n, starts_W[starts_W >= 0]] = examples.labels[n][starts_W >= 0]
    for number, why in ((cut, f"cut at {data.max_length} tokens"), (unread, "without a token")):
        if number:
            log.warning(
                "%d of %d words are %s: they are not learned from, and count as tagged O.",
                number, sum(map(len, examples.texts)), why,
            )  # fmt: skip
    return TaggedTokens(ids, labels_NT, starts=tuple(starts))
