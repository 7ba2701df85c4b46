"""From a stream of token ids to arrays of fixed shape: training windows, and (context,
continuation) pairs.

A causal model reads its context pruned and what it is scored on dense, so every likelihood is that
of a continuation after a context, never of tokens inside a pruned prompt.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latadj_jax.data.encoded import group
from latadj_jax.model.buckets import bucket_of, default_buckets, pad

log = logging.getLogger(__name__)

Pair = tuple[np.ndarray, np.ndarray]  # context ids [n], continuation ids [m]


class Windows(NamedTuple):
    """W windows of C context tokens and the S tokens after them, in the order of the text."""

    prompt: np.ndarray  # int32 [W, C]
    continuation: np.ndarray  # int32 [W, S], 0 after the end of the text
    weights: np.ndarray  # float32 [W, S], 1 for a token to score, 0 after the end of the text

    @property
    def num_scored(self) -> int:
        return int(np.count_nonzero(self.weights))


class PairBatch(NamedTuple):
    """B pairs padded on the right; a short batch is filled up with its first pair at weight 0."""

    indices: np.ndarray  # int [n], n <= B: which pairs the first n rows are
    prompt: dict[str, np.ndarray]  # input_ids int32 [B, P], attention_mask bool [B, P]
    continuation: np.ndarray  # int32 [B, S]
    weights: np.ndarray  # float32 [B, S], 1 for a token to score
    cut: np.ndarray  # int [n]: how many of its oldest tokens each context lost


def training_windows(ids: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Whole windows of the stream, int32 [W, length], whose starts are `stride` tokens apart.

    What is left at the end is dropped. A read-only view: rows taken by index are copies.

    >>> training_windows(np.arange(7), length=3, stride=2).tolist()
    [[0, 1, 2], [2, 3, 4], [4, 5, 6]]

    Raises:
      ValueError: a length under 2 (nothing to predict), a stride under 1, a stream that is too
        short for one window.
    """
    if length < 2:
        raise ValueError(f"length must be at least 2 tokens, one to predict; it is {length}.")
    if stride < 1:
        raise ValueError(f"stride must be at least 1 token; it is {stride}.")
    stream = _stream(ids)
    if len(stream) < length:
        raise ValueError(
            f"the stream has {len(stream)} tokens, a window {length}; use more text or a shorter "
            f"length."
        )
    return np.lib.stride_tricks.sliding_window_view(stream, length)[::stride]


def sliding_windows(ids: np.ndarray, context: int, continuation: int) -> Windows:
    """Windows that score every token from `context` on exactly once, after a full context.

    Window k scores the `continuation` tokens from context + k * continuation on, and its prompt is
    the `context` tokens right before them; nothing of a prompt is at or after a scored token. The
    first `context` tokens of the stream are never scored: compare perplexities of one context only.

    >>> w = sliding_windows(np.arange(6), context=2, continuation=3)
    >>> w.prompt.tolist(), w.continuation.tolist(), w.weights.tolist()
    ([[0, 1], [3, 4]], [[2, 3, 4], [5, 0, 0]], [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])

    Raises:
      ValueError: an empty context or continuation, a stream with nothing after the first context.
    """
    if context < 1:
        raise ValueError(f"context must be at least 1 token; it is {context}.")
    if continuation < 1:
        raise ValueError(f"continuation must be at least 1 token; it is {continuation}.")
    stream = _stream(ids)
    num_scored = len(stream) - context
    if num_scored < 1:
        raise ValueError(
            f"the stream has {len(stream)} tokens, none after a context of {context}; use more "
            f"text or a shorter context."
        )
    num_windows = -(-num_scored // continuation)
    prompts = np.lib.stride_tricks.sliding_window_view(stream, context)  # no copy
    scored = np.zeros(num_windows * continuation, np.int32)
    scored[:num_scored] = stream[context:]
    weights = (np.arange(len(scored)) < num_scored).astype(np.float32)
    shape = (num_windows, continuation)
    return Windows(
        prompts[: num_windows * continuation : continuation],
        scored.reshape(shape),
        weights.reshape(shape),
    )


def pairs_batches(
    pairs: Sequence[Pair],
    prompt_buckets: Sequence[int],
    continuation_buckets: Sequence[int],
    batch_size: int,
) -> list[PairBatch]:
    """Every (context, continuation) pair once, in batches of few shapes.

    Pairs share a batch with others of their prompt bucket, those of like continuations first; the
    continuation bucket is that of the longest in the batch. Of a context that is longer than the
    largest bucket the oldest tokens are cut off; a warning counts these contexts, and `cut` tells
    which they are. Without buckets, `()`, they are `default_buckets` of the longest.

    Raises:
      ValueError: no pairs, an empty context or continuation, a continuation that is longer than
        the largest bucket, a batch size under 1.
    """
    if not pairs:
        raise ValueError("there are no (context, continuation) pairs to batch.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; it is {batch_size}.")
    for i, (context, continuation) in enumerate(pairs):
        for name, part in (("context", context), ("continuation", continuation)):
            if not len(part):
                raise ValueError(f"pair {i} (from 0) has an empty {name}; drop it.")
    full_lengths = np.array([len(context) for context, _ in pairs])
    scored_lengths = np.array([len(continuation) for _, continuation in pairs])
    prompt_buckets = prompt_buckets or default_buckets(int(full_lengths.max()))
    continuation_buckets = continuation_buckets or default_buckets(int(scored_lengths.max()))
    if scored_lengths.max() > max(continuation_buckets):
        raise ValueError(
            f"pair {scored_lengths.argmax()} (from 0) has a continuation of "
            f"{scored_lengths.max()} tokens, the largest bucket is {max(continuation_buckets)}; "
            f"add a bucket."
        )
    lengths = np.minimum(full_lengths, max(prompt_buckets))
    cut = full_lengths - lengths
    if cut.any():
        log.warning(
            "%d of %d contexts were longer than %d tokens; their oldest tokens were cut off.",
            np.count_nonzero(cut), len(pairs), max(prompt_buckets),
        )  # fmt: skip
    by_continuation = [bucket_of(n, continuation_buckets) for n in scored_lengths]
    order = np.argsort(by_continuation, kind="stable")
    batches = []
    for members, prompt_length in group(lengths[order], prompt_buckets, batch_size):
        indices = order[members]
        rows = np.concatenate([indices, np.repeat(indices[:1], batch_size - len(indices))])
        prompt = pad([{"input_ids": pairs[i][0][cut[i] :]} for i in rows], prompt_length)
        width = max(by_continuation[i] for i in indices)
        scored = np.zeros((batch_size, width), np.int32)
        weights = np.zeros((batch_size, width), np.float32)
        for row, i in enumerate(rows):
            scored[row, : scored_lengths[i]] = pairs[i][1]
            weights[row, : scored_lengths[i]] = row < len(indices)
        batches.append(PairBatch(indices, prompt, scored, weights, cut[indices]))
    return batches


def _stream(ids: np.ndarray) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"ids must be one stream of integers, [n]; they are {ids.dtype} {list(ids.shape)}."
        )
    return ids.astype(np.int32, copy=False)
