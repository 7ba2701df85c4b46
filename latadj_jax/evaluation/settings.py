"""Settings of an evaluation."""

import dataclasses

from latadj_jax.checks import need, need_not_negative, need_one_of, need_positive
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class LMSettings:
    """Windows of running text, in tokens; task "lm" only."""

    window: int = 512  # of training
    stride: int = 128  # between the starts of training windows
    # 0: a window is pruned as a whole, and removed tokens are restored for the loss. Else its first
    # `prompt` tokens are pruned, and the rest is read after them and scored.
    prompt: int = 0
    context: int = 512  # of evaluation: pruned before every `continuation` scored tokens
    continuation: int = 128
    mode: str = "sliding"  # "whole": prune context and scored tokens as one, which leaks
    max_windows: int = 0  # of evaluation; 0 = all

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
    alphas: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # dense is always added
    metrics: tuple[str, ...] = ("accuracy",)
    batch_size: int = 32
    num_beams: int = 1  # of "seq2seq": how targets are generated, see `BeamSearch`
    timing_repeats: int = 5

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
