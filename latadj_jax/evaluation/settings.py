"""Settings of an evaluation."""

import dataclasses


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


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    alphas: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # dense is always added
    metrics: tuple[str, ...] = ("accuracy",)
    batch_size: int = 32
    num_beams: int = 1  # of "seq2seq": how targets are generated, see beam.py
    timing_repeats: int = 5
