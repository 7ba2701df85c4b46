"""Likelihoods of texts under a pruned context: perplexity, and whether a continuation is greedy.

Always (context, continuation): the context is read with elimination, ranked by its own queries
only, and every scored token is read after it densely. "whole" is the exception, by name only.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from latadj_jax.checks import check_fits
from latadj_jax.data.windows import Pair, Windows, pairs_batches
from latadj_jax.devices.mesh import fetch
from latadj_jax.elimination.plan import Plan
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.model.apply import apply
from latadj_jax.model.model import Model, rngs_for


class Scored(NamedTuple):
    """Log-likelihoods of the pairs' continuations, in the order of the pairs."""

    log_likelihood: np.ndarray  # float64 [N], in nats, summed over a continuation's tokens
    greedy: np.ndarray  # bool [N], whether each of its tokens was the most likely one
    tokens: np.ndarray  # int [N]

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood per token."""
        return math.exp(-self.log_likelihood.sum() / self.tokens.sum())


def score_pairs(
    model: Model,
    params,
    pairs: Sequence[Pair],
    plan_of,
    prompt_buckets: Sequence[int] = (),
    batch_size: int = 8,
    progress: str = "score",
) -> Scored:
    """Likelihood of each continuation after its context; pairs may have any lengths.

    Args:
      pairs: (context ids [n], continuation ids [m]).
      plan_of: function of a padded length that gives the Plan, e.g. `functools.partial(model.plan,
        0.9)`.
      prompt_buckets: padded lengths of contexts; a longer one loses its oldest tokens, with a
        warning. By default 16, 24, 32, ... up to the longest.

    Raises:
      ValueError: a pair that passes the model's positions, or that `pairs_batches` refuses.
    """
    for n, (context, continuation) in enumerate(pairs):
        length = min(len(context), max(prompt_buckets, default=len(context))) + len(continuation)
        what = f"pair {n} (from 0) has {length} tokens, of which all but the last are read"
        check_fits(length - 1, model.config.max_positions, what, "shorten its context")
    result = Scored(np.zeros(len(pairs)), np.zeros(len(pairs), bool), np.zeros(len(pairs), int))
    batches = pairs_batches(pairs, prompt_buckets, (), batch_size)
    for batch in tqdm(batches, desc=progress, unit="batch", leave=False):
        plan = plan_of(batch.prompt["input_ids"].shape[1])
        scored = _score(model, plan, params, batch.prompt, batch.continuation, batch.weights)
        for whole, part in zip(result, map(fetch, scored), strict=True):
            whole[batch.indices] = part[: len(batch.indices)]
    return result


def score_windows(
    model: Model, params, windows: Windows, plan: Plan, batch_size: int = 8, progress: str = "score"
) -> Scored:
    """Likelihood of each window's scored tokens after its full context."""

    def score(rows):
        prompt_BC, continuation_BS, weights_BS = (array[rows] for array in windows)
        return _score(model, plan, params, {"input_ids": prompt_BC}, continuation_BS, weights_BS)

    return _in_batches(score, len(windows.prompt), batch_size, progress)


def score_whole(
    model: Model, params, windows_WT: np.ndarray, plan: Plan, batch_size=8, progress: str = "score"
) -> Scored:
    """Likelihood of whole windows pruned as one sequence, removed tokens restored at the end.

    It leaks: which word-vectors stay depends on queries after the scored tokens. Only to compare
    with papers that do it.

    Args:
      windows_WT: int32 [W, T]; all but the first token of each are scored.
    """

    def score(rows):
        return _score_whole(model, plan, params, windows_WT[rows])

    return _in_batches(score, len(windows_WT), batch_size, progress)


def _in_batches(score, num_windows: int, batch_size: int, progress: str) -> Scored:
    """`score` of all rows, in batches of one shape: the last is filled up with its last row."""
    parts = []
    for start in tqdm(range(0, num_windows, batch_size), desc=progress, unit="batch", leave=False):
        rows = np.arange(start, start + batch_size)
        scored = score(np.minimum(rows, num_windows - 1))
        parts.append([fetch(array)[rows < num_windows] for array in scored])
    return Scored(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score(model, plan, params, prompt: Mapping[str, jax.Array], continuation_BS, weights_BS):
    logits_BSV = continuation_logits(  # nothing is scored after the last token
        model, params, prompt, continuation_BS[:, :-1], plan=plan, rngs=rngs_for(plan)
    )
    return _sums(logits_BSV, continuation_BS, weights_BS)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score_whole(model, plan, params, ids_BT):
    logits_BTV = apply(model, params, {"input_ids": ids_BT}, plan=plan, restore=True,
                       rngs=rngs_for(plan)).logits  # fmt: skip
    return _sums(logits_BTV[:, :-1], ids_BT[:, 1:], jnp.ones(ids_BT[:, 1:].shape))


def _sums(logits_BSV, ids_BS, weights_BS):
    loss_BS = optax.softmax_cross_entropy_with_integer_labels(logits_BSV, ids_BS)
    wrong_BS = (jnp.argmax(logits_BSV, axis=-1) != ids_BS) & (weights_BS > 0)
    return -(loss_BS * weights_BS).sum(axis=1), ~wrong_BS.any(axis=1), (weights_BS > 0).sum(axis=1)
