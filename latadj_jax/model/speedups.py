"""The alphas of a model for the speedups that are asked of it."""

from collections.abc import Sequence

import numpy as np

from latadj_jax.elimination.speedup import solve_alpha
from latadj_jax.model.model import Model


def alphas_of_speedups(
    model: Model, lengths: int | Sequence[int], speedups: Sequence[float]
) -> list[float]:
    """For each speedup the largest alpha that is expected to give it, see `solve_alpha`.

    Args:
      lengths: tokens of one text, or of each of many: the speedup is that of all together.
    """
    protected = model.plan(None, int(np.max(lengths))).floor
    return [solve_alpha(model.profile, lengths, s, protected=protected) for s in speedups]
