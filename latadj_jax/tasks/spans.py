"""Answer spans: the best of all windows of a context, from the logits of their tokens.

As Hugging Face's run_qa chooses: by the sum of the logits that an answer starts and that it ends.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_TOKENS = 30  # of an answer, as in run_qa


class Found(NamedTuple):
    """An answer.

    Attributes:
      score: its probability, in [0, 1]: that its tokens are the first and the last one, among all
        tokens of the context and CLS in all windows.
      start, end: its characters of the context; 0 and 0 where there is none.
      answer: these characters; "" where there is none.
    """

    score: float
    start: int
    end: int
    answer: str


def best_spans(
    context: str,
    logits: Sequence[np.ndarray],
    offsets: Sequence[np.ndarray],
    top_k: int = 1,
    most_tokens: int = MOST_TOKENS,
    no_answer: bool = False,
) -> list[Found]:
    """The answers of a context, the best first: at most `top_k`, each once.

        start logits 0 3 1, end logits 0 1 2 of the tokens "in", "old", "York"   ->   "old York"

    Args:
      logits: of each window float32 [tokens, 2], that an answer starts and that it ends there.
      offsets: of each window int32 [tokens, 2], the characters of the context that a token stands
        for; -1 where it stands for none, as CLS, the first, does.
      most_tokens: the longest answer.
      no_answer: whether there may be none, which CLS stands for. Its logits are those of the window
        that is surest of an answer.
    """
    log_total = sum(_log_total(logits, offsets, which) for which in (0, 1))
    candidates = []
    for logits_T2, offsets_T2 in zip(logits, offsets, strict=True):
        for total, first, last in _spans(logits_T2, offsets_T2, top_k, most_tokens):
            start, end = offsets_T2[first, 0], offsets_T2[last, 1]
            candidates.append((total, *_trimmed(context, int(start), int(end))))
    candidates = [(total, start, end) for total, start, end in candidates if start < end]
    if no_answer:
        candidates.append((min(float(window[0].sum()) for window in logits), 0, 0))
    best: dict[tuple[int, int], Found] = {}
    for total, start, end in sorted(candidates, key=lambda candidate: -candidate[0]):
        found = Found(math.exp(total - log_total), start, end, context[start:end])
        best.setdefault((start, end), found)
    return list(best.values())[:top_k]


def _log_total(logits, offsets, which: int) -> float:
    """log of the sum of exp(logit) over all tokens of the context, and CLS, of all windows."""
    may_be = [offsets_T2[:, 0] >= 0 for offsets_T2 in offsets]
    for is_inside_T in may_be:
        is_inside_T[0] = True
    every = [x_T2[inside_T, which] for x_T2, inside_T in zip(logits, may_be, strict=True)]
    every_N = np.concatenate(every).astype(np.float64)
    most = every_N.max()
    return float(most + np.log(np.exp(every_N - most).sum()))


def _spans(logits_T2, offsets_T2, top_k: int, most_tokens: int) -> list[tuple[float, int, int]]:
    """(sum of logits, first token, last token) of the best in one window; of equals the earlier."""
    inside_T1 = offsets_T2[:, :1] >= 0
    start_T, end_T = np.where(inside_T1, logits_T2, -np.inf).astype(np.float64).T
    after_T = np.concatenate([end_T, np.full(most_tokens - 1, -np.inf)])
    sums_TM = start_T[:, None] + np.lib.stride_tricks.sliding_window_view(after_T, most_tokens)
    flat = sums_TM.reshape(-1)
    order = [flat.argmax()] if top_k == 1 else np.argsort(-flat, kind="stable")[:top_k]
    return [
        (float(flat[n]), int(n) // most_tokens, int(n) // most_tokens + int(n) % most_tokens)
        for n in order
        if flat[n] > -np.inf
    ]


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """Without the white space that some tokenizers count to a token."""
    while start < end and context[start].isspace():
        start += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    return start, end
