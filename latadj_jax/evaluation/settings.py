"""Settings of an evaluation."""

import dataclasses

from latadj_jax.checks import need, need_not_negative, need_one_of, need_positive
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class LMSettings:
    """Windows of running text, in tokens; for task "lm" only."""

    window: int = 512  # length of a training window
    stride: int = 128  # distance between the starts of training windows
    # 0: a training window is pruned as a whole, and removed tokens are restored for the loss. Above
    # 0: its first `prompt` tokens are pruned; the rest is read after them and scored.
    prompt: int = 0
    context: int = 512  # evaluation: length of the pruned context before each continuation
    continuation: int = 128  # evaluation: number of tokens that are scored after each context
    # "sliding", or "whole": context and scored tokens are pruned as one, so that later tokens
    # influence earlier ones.
    mode: str = "sliding"
    max_windows: int = 0  # evaluation: number of windows; 0 = all

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        need_positive("lm.stride", self.stride)
        need_positive("lm.context", self.context)
        need_positive("lm.continuation", self.continuation)
        need(self.window >= 2, "lm.window", self.window, "at least 2 tokens, one to predict")
        fits = 0 <= self.prompt < self.window
        need(fits, "lm.prompt", self.prompt, "0, or less than lm.window")
        need_one_of("lm.mode", self.mode, ("sliding", "whole"))
        need_not_negative("lm.max_windows", self.max_windows)


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """How a run is evaluated."""

    # Alphas to evaluate at; dense is always added.
    alphas: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
    metrics: tuple[str, ...] = ("accuracy",)  # the task's metrics to report
    batch_size: int = 32  # examples per batch
    num_beams: int = 1  # for "seq2seq": beams with which targets are generated
    timing_repeats: int = 5  # how often each program is timed

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        for alpha in self.alphas:
            try:
                check_alpha(alpha)
            except ValueError as error:
                raise SettingsError(f"config.eval.alphas: {error}") from None
        need(bool(self.metrics), "eval.metrics", self.metrics, "at least one metric")
        need_positive("eval.batch_size", self.batch_size)
        need_positive("eval.num_beams", self.num_beams)
        need_positive("eval.timing_repeats", self.timing_repeats)
