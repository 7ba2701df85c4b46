"""What an engine may do to meet deadlines: how far it may prune, how much it lets wait."""

import dataclasses
import math
from collections.abc import Sequence

from latadj_jax.checks import check_integer, is_number
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.model.model import Model


@dataclasses.dataclass(frozen=True)
class Policy:
    """How `Engine.submit` serves requests with a deadline (`latadj_jax.serving.policy.Policy`).

    Attributes:
      min_alpha: the floor of quality: no smaller alpha is chosen.
      max_speedup: the same floor as an expected speedup over dense, at the largest bucket.
      max_waiting: number of requests that may wait.
      max_waiting_tokens: number of tokens that may wait, all requests together.
      reserve: share of a request's time that plans leave unused.
      batch_share: largest share of a request's time that one batch may take, if smaller batches are
        possible: a request that comes while a batch runs has to wait for its end.
      calm_s: seconds without need after which a slower alpha is tried again.
      patience_s: a request without a deadline is treated as if it had one after so many seconds.
    """

    min_alpha: float | None = None
    max_speedup: float | None = None
    max_waiting: int = 1024
    max_waiting_tokens: int = 131_072
    reserve: float = 0.1
    batch_share: float = 0.5
    calm_s: float = 0.2
    patience_s: float = 10.0

    def __post_init__(self):
        check_alpha(self.min_alpha)
        check_integer("max_waiting", self.max_waiting, 1)
        check_integer("max_waiting_tokens", self.max_waiting_tokens, 1)
        if self.min_alpha is not None and self.max_speedup is not None:
            raise ValueError("min_alpha and max_speedup exclude each other; give one.")
        most = self.max_speedup
        if most is not None and not (is_number(most) and math.isfinite(most) and most >= 1):
            raise ValueError(f"max_speedup must be a number of at least 1; it is {most!r}.")

    def allowed(
        self, model: Model, alphas: Sequence[float | None], longest: int
    ) -> tuple[float | None, ...]:
        """Those of `alphas` that may be chosen, in their order.

        Args:
          longest: the largest bucket.

        Raises:
          ValueError: there is none.
        """
        least, most = self.min_alpha, self.max_speedup
        if least is not None:
            found = tuple(alpha for alpha in alphas if alpha is None or alpha >= least)
        elif most is not None:
            found = tuple(
                alpha for alpha in alphas if expected_speedup(model.plan(alpha, longest)) <= most
            )
        else:
            found = tuple(alphas)
        if not found:
            floor = f"min_alpha {least:g}" if least is not None else f"max_speedup {most:g}"
            raise ValueError(f"{floor} leaves none of the engine's alphas; add None, for dense.")
        return found
