"""Calibration: measuring a model's ACC per layer on examples, once."""

from collections.abc import Iterable, Mapping

import jax
import numpy as np

from latadj_jax.devices.mesh import fetch, place_batch, with_auto_axes
from latadj_jax.elimination.profile import DEFAULT_FIT, Profile
from latadj_jax.elimination.score import attention_context_contribution
from latadj_jax.model.apply import apply
from latadj_jax.model.model import Model, check_model


def calibrate(
    model: Model, params, batches: Iterable[Mapping[str, jax.Array]], fit: str = DEFAULT_FIT
) -> Profile:
    """Measures a model's elimination profile, in a dense pass over some batches.

        ACC_l = mean over examples of the median of SV_l over valid word-vectors

    Args:
      batches: as `apply` takes them, of any lengths; a few hundred examples are enough. Rows of
        weight 0 (`weights` [B], optional) are left out. A T5 needs no `decoder_input_ids`: only its
        encoder runs.
      fit: the curve fitted to ACC_1..ACC_L, see `Profile.from_acc`.

    Raises:
      ValueError: no batches, or input that `apply` refuses.

    Source: arXiv 2201.03327, section 3.
    """
    check_model(model)
    if isinstance(batches, Mapping):
        raise ValueError("batches must be a list of batches; it is one batch: put it in a list.")
    if not np.iterable(batches):
        raise ValueError(f"batches must be a list of batches; it is {batches!r}.")
    acc = [_acc(model, params, batch) for batch in batches]
    if not sum(map(len, acc)):
        raise ValueError("calibration needs at least one batch with an example; there is none.")
    return Profile.from_acc(np.concatenate(acc).mean(axis=0, dtype=np.float64), fit)


def _acc(model: Model, params, batch: Mapping[str, jax.Array]) -> np.ndarray:
    """ACC of each example and layer of one batch: [B, number of layers]."""
    if not isinstance(batch, Mapping):
        raise ValueError(f"each batch must be a dict of arrays; one is a {type(batch).__name__}.")
    inputs = {key: array for key, array in batch.items() if key not in model.head_inputs}
    out = apply(model.encoder, params, place_batch(inputs), return_scores=True)
    acc_by_layer = np.stack(
        [fetch(_median(scores, out.positions)) for scores in out.scores or ()], axis=1
    )
    weights_B = np.asarray(batch.get("weights", np.ones(len(acc_by_layer))))
    if weights_B.shape != (len(acc_by_layer),):
        raise ValueError(f"weights must be [{len(acc_by_layer)}]; it is {list(weights_B.shape)}.")
    return acc_by_layer[weights_B > 0]


@jax.jit
def _median(scores_BL: jax.Array, positions_BL: jax.Array) -> jax.Array:
    def run(scores_BL, positions_BL):
        return attention_context_contribution(scores_BL, positions_BL >= 0)

    return with_auto_axes(run, scores_BL, scores_BL, positions_BL)
