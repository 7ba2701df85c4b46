"""What the settings of a run may be: each rule is one sentence that names the setting."""

import math
from typing import Any

from latadj_jax.checks import DTYPES
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.plan import COUNTS
from latadj_jax.elimination.profile import FITS
from latadj_jax.elimination.strategies import STRATEGIES
from latadj_jax.errors import SettingsError

METRICS = {
    "classification": ("accuracy", "f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "lm": ("perplexity",),
    "seq2seq": ("bleu", "chrf", "exact_match"),
}


def check(s) -> None:
    """Raises SettingsError unless all values of `s`, a settings.Settings, can work."""

    def need(ok: bool, key: str, value: Any, rule: str) -> None:
        if not ok:
            raise SettingsError(f"config.{key} must be {rule}; it is {value!r}.")

    def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
        need(value in allowed, key, value, f"one of {', '.join(allowed)}")

    def positive(key: str, value: float) -> None:
        need(math.isfinite(value) and value > 0, key, value, "greater than 0")

    def not_negative(key: str, value: float) -> None:
        need(math.isfinite(value) and value >= 0, key, value, "0 or greater")

    need(bool(s.workdir), "workdir", s.workdir, "the folder that results go to")
    need(0 <= s.seed < 2**32, "seed", s.seed, "in [0, 2^32)")
    one_of("model.task", s.model.task, tuple(METRICS))
    one_of("model.dtype", s.model.dtype, DTYPES)
    need(0 <= s.model.dropout < 1, "model.dropout", s.model.dropout, "in [0, 1)")
    for size, value in vars(s.model.scratch).items():
        positive(f"model.scratch.{size}", value)

    d = s.data
    if not (d.hub or d.path):
        raise SettingsError(
            "config.data names no data: set config.data.path to a file or folder, or "
            "config.data.hub to a data set id."
        )
    need(len(d.text_columns) in (1, 2), "data.text_columns", d.text_columns, "one or two columns")
    need(len(d.local_text_columns) <= 2, "data.local_text_columns", d.local_text_columns, "0 to 2")
    need(0 < d.eval_fraction < 1, "data.eval_fraction", d.eval_fraction, "between 0 and 1")
    need(len(set(d.labels)) == len(d.labels), "data.labels", d.labels, "all different")
    need(len(d.labels) != 1, "data.labels", d.labels, "two names or more, or () to read them")
    need(bool(d.eval_files), "data.eval_files", d.eval_files, "one file or more")
    need(bool(d.eval_splits), "data.eval_splits", d.eval_splits, "one split or more")
    need(d.max_length >= 3, "data.max_length", d.max_length, "at least 3")
    need(d.max_target_length >= 2, "data.max_target_length", d.max_target_length, "at least 2")
    for bucket in d.buckets:
        need(
            isinstance(bucket, int) and 0 < bucket <= d.max_length,
            "data.buckets",
            d.buckets,
            f"lengths from 1 to data.max_length ({d.max_length})",
        )
    if d.teacher:
        ok = s.model.task in ("classification", "regression")
        need(ok, "data.teacher", d.teacher, f"'' for a model of task {s.model.task}")
    not_negative("data.max_train_examples", d.max_train_examples)
    not_negative("data.max_eval_examples", d.max_eval_examples)

    positive("lm.stride", s.lm.stride)
    positive("lm.context", s.lm.context)
    positive("lm.continuation", s.lm.continuation)
    need(s.lm.window >= 2, "lm.window", s.lm.window, "at least 2 tokens, one to predict")
    need(0 <= s.lm.prompt < s.lm.window, "lm.prompt", s.lm.prompt, "0, or less than lm.window")
    one_of("lm.mode", s.lm.mode, ("sliding", "whole"))
    not_negative("lm.max_windows", s.lm.max_windows)
    if s.model.task in ("classification", "regression") and not s.model.source:
        raise SettingsError(f"config.model.source names no model for a {s.model.task}.")
    if s.model.task == "seq2seq":
        need(bool(d.labelled_by), "data.label_column", "", "the column of target texts")
        for key in ("text_columns", "local_text_columns"):
            columns = getattr(d, key) or ("",)
            need(len(columns) == 1, f"data.{key}", columns, "one, the source")
        heads, width = s.model.scratch.num_heads, s.model.scratch.hidden_size
        need(width % heads == 0, "model.scratch.hidden_size", width, f"a multiple of {heads} heads")

    e = s.elimination
    positive("elimination.alpha", e.alpha)
    one_of("elimination.count", e.count, COUNTS)
    one_of("elimination.strategy", e.strategy or "score", STRATEGIES)
    one_of("elimination.fit", e.fit, (*FITS, "falling"))
    if e.fit == "falling":
        need(s.model.task in ("classification", "regression"), "elimination.fit", e.fit,
             f"one of {', '.join(FITS)} for a model of task {s.model.task}")  # fmt: skip
    not_negative("elimination.calibration_examples", e.calibration_examples)
    for layer in e.layers:
        ok = isinstance(layer, int) and layer >= 1
        need(ok, "elimination.layers", e.layers, "numbers of layers, from 1")

    for alpha in e.alphas:
        ok = isinstance(alpha, (int, float)) and 0 < alpha < math.inf
        need(ok, "elimination.alphas", e.alphas, "numbers greater than 0")
    need(len(set(e.alphas)) == len(e.alphas), "elimination.alphas", e.alphas, "all different")
    need(not (e.dense and e.alphas), "elimination.alphas", e.alphas, "() with elimination.dense")
    if e.sandwich:
        need(len(e.alphas) >= 2, "elimination.alphas", e.alphas, "two or more with a sandwich")
    need(0 <= e.distill <= 1, "elimination.distill", e.distill, "a share, in [0, 1]")
    if e.distill:
        need(not e.dense, "elimination.distill", e.distill, "0 with elimination.dense")

    sizes = (s.mesh.data, s.mesh.fsdp, s.mesh.tensor)
    need(all(n == -1 or n >= 1 for n in sizes), "mesh", sizes, "sizes of at least 1, or -1")
    need(sizes.count(-1) <= 1, "mesh", sizes, "-1 for one axis at most")

    t = s.train
    positive("train.accumulate", t.accumulate)
    whole = t.batch_size % t.accumulate == 0
    need(whole, "train.accumulate", t.accumulate, f"a divisor of train.batch_size, {t.batch_size}")
    positive("train.keep", t.keep)
    positive("train.checkpoint_every", t.checkpoint_every)
    not_negative("train.evaluate_every", t.evaluate_every)
    if t.evaluate_every:
        whole = t.evaluate_every % t.checkpoint_every == 0
        need(whole, "train.evaluate_every", t.evaluate_every,
             f"a multiple of train.checkpoint_every, {t.checkpoint_every}")  # fmt: skip
    if t.keep_best:
        need(t.evaluate_every > 0, "train.evaluate_every", 0, "above 0 with train.keep_best")
    one_of("train.generator", t.generator, ("rbg", "threefry2x32"))
    positive("train.batch_size", t.batch_size)
    positive("train.epochs", t.epochs)
    not_negative("train.max_steps", t.max_steps)
    one_of("train.optimizer", t.optimizer, ("adamw", "adafactor"))
    if t.optimizer == "adafactor":
        need(t.weight_decay == 0, "train.weight_decay", t.weight_decay, "0 with adafactor")
    positive("train.learning_rate", t.learning_rate)
    need(0 <= t.warmup < 1, "train.warmup", t.warmup, "in [0, 1), a share of all steps")
    not_negative("train.weight_decay", t.weight_decay)
    positive("train.clip_norm", t.clip_norm)
    positive("train.log_every", t.log_every)

    for alpha in s.eval.alphas:
        try:
            check_alpha(alpha)
        except ValueError as error:
            raise SettingsError(f"config.eval.alphas: {error}") from None
    need(bool(s.eval.metrics), "eval.metrics", s.eval.metrics, "at least one metric")
    for metric in s.eval.metrics:
        one_of(f"eval.metrics of a {s.model.task}", metric, METRICS[s.model.task])
    positive("eval.batch_size", s.eval.batch_size)
    positive("eval.num_beams", s.eval.num_beams)
    positive("eval.timing_repeats", s.eval.timing_repeats)
