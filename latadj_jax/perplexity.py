"""Evaluation of a language model at several alphas: perplexity, last words, speed, cache."""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from latadj_jax.generation import generate
from latadj_jax.likelihood import rngs_for, score_pairs, score_whole, score_windows
from latadj_jax.measure import interleaved_ms, median
from latadj_jax.model import Model
from latadj_jax.plan import Plan, expected_speedup, macs
from latadj_jax.settings import EliminationSettings, EvalSettings, LMSettings
from latadj_jax.windows import Pair, Windows, sliding_windows, training_windows


def evaluate_text(
    model: Model,
    params,
    parts: Mapping[str, np.ndarray],
    alphas: Sequence[float],
    lm: LMSettings,
    elimination: EliminationSettings,
    settings: EvalSettings,
) -> dict:
    """Perplexity and speed, dense and at each alpha, as JSON-ready values.

    Args:
      parts: token ids of the evaluation texts by name, int32 [n] each.

    Returns:
      as `evaluation.evaluate`; a row's times are those to the first token after a context, and
      `cache_bytes` is the size of one context's key-value cache.
    """
    sliding = lm.mode == "sliding"
    pruned = lm.context if sliding else lm.context + lm.continuation
    plans = _plans(model, alphas, pruned, elimination)
    times_ms = _first_token_ms(model, params, next(iter(parts.values())), plans, settings)
    rows, scored = [], {}
    for alpha, plan in plans.items():
        scores = {}
        for name, ids in parts.items():
            label = f"{name} {'dense' if alpha is None else f'alpha {alpha:g}'}"
            limit = lm.max_windows or None
            if sliding:
                windows = sliding_windows(ids, lm.context, lm.continuation)
                windows = Windows(*(array[:limit] for array in windows))
                result = score_windows(model, params, windows, plan, settings.batch_size, label)
            else:
                windows_WT = training_windows(ids, pruned, pruned)[:limit]
                result = score_whole(model, params, windows_WT, plan, settings.batch_size)
            scores[name] = {"perplexity": result.perplexity}
            scored[name] = int(result.tokens.sum())
        rows.append(
            {
                "alpha": alpha,
                "metrics": scores,
                "measured_speedup": times_ms[None] / times_ms[alpha],
                "ms_per_example": times_ms[alpha] / settings.batch_size,
                "expected_speedup": expected_speedup(plan),
                "macs": macs(model, plan),
                "cache_bytes": cache_bytes(model, plan),
                "remaining": [n / plan.length for n in plan.counts],
            }
        )
    unit = (
        f"tokens scored, each after its own context of {pruned} or more"
        if sliding
        else f"tokens scored inside of whole pruned sequences of {pruned}, which leaks"
    )
    timing = f"median time to the first token of a batch of {settings.batch_size} contexts"
    return {
        "metrics": ["perplexity"],
        "examples": scored,
        "unit": unit,
        "timing": timing,
        **_about(model, elimination, settings),
        "rows": rows,
    }


def evaluate_last_words(
    model: Model,
    params,
    pairs: Sequence[Pair],
    alphas: Sequence[float],
    elimination: EliminationSettings,
    settings: EvalSettings,
) -> dict:
    """Accuracy and perplexity of last words after their contexts, dense and at each alpha.

    A word is right if each of its tokens is the most likely one.

    Args:
      pairs: (ids of the context, ids of its last word), e.g. of LAMBADA.
    """
    rows = []
    lengths = np.array([len(context) for context, _ in pairs])
    for alpha in (None, *dict.fromkeys(alphas)):
        plan_of = functools.partial(
            model.plan, alpha, count=elimination.count, strategy=elimination.strategy
        )
        label = "last words " + ("dense" if alpha is None else f"alpha {alpha:g}")
        result = score_pairs(model, params, pairs, plan_of, (), settings.batch_size, label)
        plan = plan_of(int(lengths.max()))
        work = np.array([n / expected_speedup(plan_of(int(n))) for n in np.unique(lengths)])
        times = np.unique(lengths, return_counts=True)[1]
        word_perplexity = float(np.exp(-result.log_likelihood.mean()))
        rows.append(
            {
                "alpha": alpha,
                "metrics": {"last_word": {"accuracy": float(result.greedy.mean()),
                                          "perplexity": word_perplexity}},
                "expected_speedup": float(lengths.sum() / (work * times).sum()),
                "macs": macs(model, plan),
                "cache_bytes": cache_bytes(model, plan),
                "remaining": [n / plan.length for n in plan.counts],
            }
        )  # fmt: skip
    return {
        "metrics": ["accuracy", "perplexity"],
        "examples": {"last_word": len(pairs)},
        "unit": "words, each after its context",
        "timing": "nothing",
        **_about(model, elimination, settings),
        "rows": rows,
    }


def cache_bytes(model: Model, plan: Plan) -> int:
    """Key-value cache of one prompt that fills the plan: N_{l-1} word-vectors in layer l."""
    into = (plan.length, *plan.sizes[:-1])
    return sum(into) * 2 * model.config.kv_size * np.dtype(model.module.dtype).itemsize


def _plans(model: Model, alphas, length: int, elimination: EliminationSettings) -> dict:
    options = {"count": elimination.count, "strategy": elimination.strategy}
    return {alpha: model.plan(alpha, length, **options) for alpha in (None, *dict.fromkeys(alphas))}


def _about(model: Model, elimination: EliminationSettings, settings: EvalSettings) -> dict:
    return {
        "num_layers": model.config.num_layers,
        "count": elimination.count,
        "strategy": elimination.strategy,
        "batch_size": settings.batch_size,
        "device": f"{jax.devices()[0].platform}, {jax.device_count()} device(s)",
        "dtype": model.dtype,
        "jax": jax.__version__,
    }


def _first_token_ms(
    model: Model, params, ids: np.ndarray, plans: Mapping[float | None, Plan], settings
) -> dict[float | None, float]:
    """Median time to the first token of a batch of contexts, at each alpha."""
    size, length = settings.batch_size, plans[None].length
    stride = max(1, (len(ids) - length) // size)
    prompts = training_windows(ids, length, stride)[:size]
    batch = jax.device_put({"input_ids": np.resize(prompts, (size, length))})

    def first_token(plan: Plan):
        return lambda: generate(model, params, batch, None, 1, plan=plan, rngs=rngs_for(plan))

    runs = {alpha: first_token(plan) for alpha, plan in plans.items()}
    times = interleaved_ms(runs, settings.timing_repeats)
    return {alpha: median(values) for alpha, values in times.items()}
