"""Questions with their contexts as token ids: a context that is too long, in windows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from latadj_jax.errors import TextError
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.pretrained.tokenizers import (
    check_fast,
    of_first_text,
    unread,
    without_surrogates,
)

AT_ONCE = 1000  # questions whose encodings are held as the tokenizer gives them


class Windows(NamedTuple):
    """Windows of contexts, in the order of the questions.

    Attributes:
      examples: of each its inputs, int32 [tokens]: CLS, the question, a part of the context. Tokens
        of the question are marked as PROTECTED.
      offsets: of each int32 [tokens, 2], the characters of the context that a token stands for; -1
        where it stands for none.
      questions: int32 [W], the number of its question.
    """

    examples: list[dict[str, np.ndarray]]
    offsets: list[np.ndarray]
    questions: np.ndarray

    def of_each(self, number: int) -> list[slice]:
        """Of each of `number` questions, which windows are its own."""
        ends_N = np.searchsorted(self.questions, np.arange(number), side="right").tolist()
        return [slice(start, end) for start, end in zip([0, *ends_N], ends_N, strict=False)]


def encode_in_windows(
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    stride: int,
    called: Callable[[int], str] = "question {}".format,
) -> Windows:
    """Each question with its context, in as many windows as the context needs.

        question q, context a b c d e, 7 tokens with CLS and two SEP, stride 1   ->
        CLS q SEP a b c SEP    CLS q SEP c d e SEP

    Args:
      max_length: tokens of a window.
      stride: tokens that two windows of a context share; at most half of those that the question
        leaves to the context.
      called: function of a question's number, from 0, that gives what errors call it.

    Raises:
      DataError: a tokenizer that does not say where its tokens stand.
      TextError: a question that leaves no room for its context, or a context without tokens.
    """
    check_fast(tokenizer, "answers")
    pairs = [tuple(map(without_surrogates, pair)) for pair in pairs]
    windows: list[tuple[int, dict[str, np.ndarray], np.ndarray]] = []
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        encoded = _encoded(tokenizer, some, start)
        for n in range(len(some)):
            columns = _columns(encoded, n)
            try:
                cuts = _cuts(columns.pop("part"), max_length, stride)
            except ValueError as error:
                raise TextError(start + n, str(error), called(start + n)) from None
            for cut in cuts:
                window = {key: column[cut] for key, column in columns.items()}
                windows.append((start + n, window, window.pop("offsets")))
    return Windows(
        [window for _, window, _ in windows],
        [offsets for _, _, offsets in windows],
        np.array([n for n, _, _ in windows], np.int32),
    )


def _encoded(tokenizer, pairs, start: int):
    options = {"return_offsets_mapping": True, "return_attention_mask": False, "verbose": False}
    questions, contexts = map(list, zip(*pairs, strict=True))
    try:
        return tokenizer(questions, contexts, **options)
    except Exception as error:  # bare, of one that lacks a character and has no unknown token
        numbers = range(start, start + len(pairs))
        raise unread(lambda pair: tokenizer(*pair, **options), pairs, numbers) or error from None


def _columns(encoded, n: int) -> dict[str, np.ndarray]:
    """Of one question all that its tokens have; "part" is 0 for it, 1 for the context, else -1."""
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    columns = {key: np.array(encoded[key][n], np.int32) for key in keys}
    part_T = np.array([-1 if p is None else p for p in encoded.sequence_ids(n)], np.int32)
    offsets_T2 = np.array(encoded["offset_mapping"][n], np.int32).reshape(-1, 2)
    offsets_T2 = np.where(part_T[:, None] == 1, offsets_T2, -1)
    marks_T = of_first_text(encoded.sequence_ids(n))
    return {**columns, PROTECTED: marks_T, "offsets": offsets_T2, "part": part_T}


def _cuts(part_T: np.ndarray, max_length: int, stride: int) -> list[np.ndarray]:
    """Of each window the indices of its tokens."""
    context = np.flatnonzero(part_T == 1)
    if not len(context):
        raise ValueError("has a context without tokens.")
    first, after = int(context[0]), int(context[-1]) + 1
    others = len(part_T) - len(context)
    if (room := max_length - others) < 1:
        raise ValueError(
            f"has {others} tokens with special ones, which leave no room for its context in a "
            f"window of {max_length}: shorten it, or allow longer windows."
        )
    before, behind = np.arange(first), np.arange(after, len(part_T))
    step, cuts = room - min(stride, room // 2), []
    for start in range(first, after, step):
        end = min(start + room, after)
        cuts.append(np.concatenate([before, np.arange(start, end), behind]))
        if end == after:
            break
    return cuts
