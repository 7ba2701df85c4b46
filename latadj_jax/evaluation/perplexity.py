"""Evaluation of a language model at several alphas: perplexity, last words, speed, cache."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.data.last_words import encode_last_word, load_last_words
from latadj_jax.data.text_files import read_text
from latadj_jax.data.windows import Pair, Windows, sliding_windows, training_windows
from latadj_jax.devices.mesh import place_timed_batch
from latadj_jax.elimination.alpha import alpha_label, check_alpha
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.speedup import expected_speedup, macs
from latadj_jax.evaluation.conditions import conditions
from latadj_jax.evaluation.likelihood import score_pairs, score_whole, score_windows
from latadj_jax.evaluation.results import Results, Row
from latadj_jax.evaluation.settings import EvalSettings, LMSettings
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model, rngs_for
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import encode_text, load_tokenizer
from latadj_jax.tasks.language_model import LANGUAGE_MODEL
from latadj_jax.timing import interleaved_ms, median


def evaluate_file(
    source: str,
    alphas: Sequence[float],
    *,
    task: str | None = None,
    strict: bool = True,
    text: str | None,
    last_words: str | None,
    lm: LMSettings,
    settings: EvalSettings,
    strategy: str = "",
    layers: Sequence[int] = (),
    dtype: str = "float32",
    speedups: Sequence[float] = (),
) -> Results:
    """`evaluate_text` of a text file, or `evaluate_last_words` of a JSON-lines file.

    Args:
      source, task, strict: of the model, see `from_pretrained`; by default its language model's.
      alphas: by default the one that the model carries, unless there are `speedups`.
      strategy: in place of the model's own.
      layers: where to remove, see `Profile.at_layers`, in place of the model's own profile.
    """
    for alpha in alphas:
        check_alpha(alpha)
    task = task or LANGUAGE_MODEL.name
    model, params = from_pretrained(source, task, dtype=dtype, strict=strict)
    if model.record.writes != LANGUAGE_MODEL.writes:
        raise ValueError(
            f"task {task!r} writes no continuation of a text; {LANGUAGE_MODEL.name!r} does."
        )
    model = model.replace(strategy=strategy or model.strategy)
    if layers:
        model = model.replace(profile=Profile.at_layers(model.config.num_layers, layers))
    tokenizer = load_tokenizer(source)
    if not alphas and not speedups and model.alpha is not None:
        alphas = (model.alpha,)
    if last_words:
        words = load_last_words(last_words)
        pairs = [encode_last_word(tokenizer, context, word) for context, word in words]
        for what, ids in zip(("context", "last word"), zip(*pairs, strict=True), strict=True):
            examples = [{"input_ids": i} for i in ids]
            check_ids(
                examples, model.input_ranges,
                lambda n, what=what: f"the {what} of example {n} (from 0)",
            )  # fmt: skip
        return evaluate_last_words(model, params, pairs, alphas, settings, speedups=speedups)
    longest = lm.context + lm.continuation
    what = f"context and continuation are {longest} tokens together"
    check_fits(longest, model.config.max_positions, what, "lower one of them")
    ids = encode_text(tokenizer, read_text(text))
    check_ids([{"input_ids": ids}], model.input_ranges, lambda _: text)
    parts = {Path(text).stem: ids}
    return evaluate_text(model, params, parts, alphas, lm, settings, speedups=speedups)


def evaluate_text(
    model: Model,
    params,
    parts: Mapping[str, np.ndarray],
    alphas: Sequence[float],
    lm: LMSettings,
    settings: EvalSettings,
    count: str = "valid",
    speedups: Sequence[float] = (),
) -> Results:
    """Perplexity and speed, dense and at each alpha.

    Args:
      parts: token ids of the evaluation texts by name, int32 [n] each.
      speedups: in place of alphas, over dense, of what is pruned before what is scored.

    Returns:
      as `evaluate`; a row's times are those to the first token after a context.
    """
    sliding = lm.mode == "sliding"
    pruned = lm.context if sliding else lm.context + lm.continuation
    solved = [model.solve_alpha(pruned, speedup) for speedup in speedups]
    wanted = (None, *dict.fromkeys((*alphas, *solved)))
    plans = {alpha: model.plan(alpha, pruned, count=count) for alpha in wanted}
    times_ms = _first_token_ms(model, params, next(iter(parts.values())), plans, settings)
    rows, scored = [], {}
    for alpha, plan in plans.items():
        scores = {}
        for name, ids in parts.items():
            label = f"{name} {alpha_label(alpha)}"
            limit = lm.max_windows or None
            if sliding:
                windows = sliding_windows(ids, lm.context, lm.continuation)
                windows = Windows(*(array[:limit] for array in windows))
                result = score_windows(model, params, windows, plan, settings.batch_size, label)
            else:
                windows_WT = training_windows(ids, pruned, pruned)[:limit]
                result = score_whole(model, params, windows_WT, plan, settings.batch_size, label)
            scores[name] = {"perplexity": result.perplexity}
            scored[name] = int(result.tokens.sum())
        rows.append(
            Row(
                alpha=alpha,
                metrics=scores,
                measured_speedup=times_ms[None] / times_ms[alpha],
                ms_per_example=times_ms[alpha] / settings.batch_size,
                expected_speedup=expected_speedup(plan),
                **_of_prompt(model, plan),
            )
        )
    unit = (
        f"tokens scored, each after its own context of {pruned} or more"
        if sliding
        else f"tokens scored inside of whole pruned sequences of {pruned}, which leaks"
    )
    timing = f"median time to the first token of a batch of {settings.batch_size} contexts"
    return Results(
        metrics=["perplexity"],
        examples=scored,
        unit=unit,
        timing=timing,
        work=f"those of {pruned} tokens",
        **conditions(model, count, settings.batch_size),
        asked=[list(pair) for pair in zip(speedups, solved, strict=True)] or None,
        rows=rows,
    )


def evaluate_last_words(
    model: Model,
    params,
    pairs: Sequence[Pair],
    alphas: Sequence[float],
    settings: EvalSettings,
    count: str = "valid",
    speedups: Sequence[float] = (),
) -> Results:
    """Accuracy and perplexity of last words after their contexts, dense and at each alpha.

    A word is right if each of its tokens is the most likely one.

    Args:
      pairs: (ids of the context, ids of its last word), e.g. of LAMBADA.
      speedups: in place of alphas, over dense, of the contexts, each by its own length.
    """
    rows = []
    lengths = np.array([len(context) for context, _ in pairs])
    solved = [model.solve_alpha(lengths, speedup) for speedup in speedups]
    for alpha in (None, *dict.fromkeys((*alphas, *solved))):
        plan_of = functools.partial(model.plan, alpha, count=count)
        label = f"last words {alpha_label(alpha)}"
        result = score_pairs(model, params, pairs, plan_of, (), settings.batch_size, label)
        plan = plan_of(int(lengths.max()))
        work = np.array([n / expected_speedup(plan_of(int(n))) for n in np.unique(lengths)])
        times = np.unique(lengths, return_counts=True)[1]
        accuracy = float(result.greedy.mean())
        word_perplexity = float(np.exp(-result.log_likelihood.mean()))
        rows.append(
            Row(
                alpha=alpha,
                metrics={"last_word": {"accuracy": accuracy, "perplexity": word_perplexity}},
                expected_speedup=float(lengths.sum() / (work * times).sum()),
                **_of_prompt(model, plan),
            )
        )
    return Results(
        metrics=["accuracy", "perplexity"],
        examples={"last_word": len(pairs)},
        unit="words, each after its context",
        work="those of each context's own length and of the longest one, respectively",
        **conditions(model, count, settings.batch_size),
        asked=[list(pair) for pair in zip(speedups, solved, strict=True)] or None,
        rows=rows,
    )


def _of_prompt(model: Model, plan: Plan) -> dict:
    """What a row says of a prompt that fills the plan."""
    return {
        "macs": macs(model, plan),
        "cache_bytes": cache_bytes(model, plan),
        "remaining": [n / plan.length for n in plan.counts],
        "skipped": list(plan.skipped) or None,
    }


def cache_bytes(model: Model, plan: Plan) -> int:
    """Key-value cache of one prompt that fills the plan: N_{l-1} word-vectors in layer l."""
    into = sum(n for n, runs in zip(plan.into, plan.runs, strict=True) if runs)
    return into * 2 * model.config.kv_size * np.dtype(model.module.dtype).itemsize


def _first_token_ms(
    model: Model, params, ids: np.ndarray, plans: Mapping[float | None, Plan], settings
) -> dict[float | None, float]:
    """Median time to the first token's logits of a batch of contexts, at each alpha."""
    size, length = settings.batch_size, plans[None].length
    starts = np.linspace(0, max(0, len(ids) - length), size).astype(int)
    prompts = np.stack([np.resize(ids[start : start + length], length) for start in starts])
    batch, nothing = place_timed_batch({"input_ids": prompts}), np.zeros((size, 0), np.int32)

    def first_token(plan: Plan):
        return lambda: continuation_logits(
            model, params, batch, nothing, plan=plan, rngs=rngs_for(plan)
        )

    runs = {alpha: first_token(plan) for alpha, plan in plans.items()}
    times = interleaved_ms(runs, settings.timing_repeats)
    return {alpha: median(values) for alpha, values in times.items()}
