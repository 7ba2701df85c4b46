"""What an engine is asked in two halves, so that a queue can come between them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Job:
    """One question to an engine, to be used once.

    Attributes:
      encode: gives the inputs of each text, unpadded.
      answer: function of their rows, [N, ...] or a list of N arrays. What is answered.
    """

    encode: Callable[[], list[dict[str, np.ndarray]]]
    answer: Callable[[Any], Any]
