"""What a training run needs, whatever its data are."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.profile import Profile
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.results import Results
from latadj_jax.model.model import Model
from latadj_jax.training.settings import Settings


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """A model and its data, loaded and checked; nothing is written yet."""

    model: Model
    params: dict  # to start from; training takes them over
    tokenizer: object  # a transformers tokenizer
    data: Encoded  # to train on
    buckets: tuple[int, ...]  # padded lengths to calibrate with
    planned: dict[int, int]  # of each padded length of training, how many tokens are pruned
    held_out: Encoded | None  # whose loss is watched; None where nobody asks
    evaluate: Callable[[Model, dict], Results]  # of (model, params)
    # For all processes at once: this job with a teacher's answers; None where labels were read.
    teach: Callable[[], "Job"] | None = None


def watched(settings: Settings, eval_data: Mapping[str, Any]) -> Any:
    """The evaluation data whose loss is watched during training: the first; None if none is."""
    return next(iter(eval_data.values())) if settings.train.evaluate_every else None


def as_trained(model: Model, settings: Settings) -> Model:
    """The model as it is trained and saved: its dropout, alpha, strategy and dtype."""
    e = settings.elimination
    return model.replace(
        config=model.config.with_dropout(settings.model.dropout),
        alpha=None if e.dense else e.alpha,
        strategy=e.strategy or model.strategy,
        removed_as=e.removed_as or model.removed_as,
        protected=e.protected or model.protected,
        dtype=settings.model.dtype,
    )


def given_profile(model: Model, settings: Settings) -> Profile | None:
    """The profile that the settings name; None where it is to be measured.

    Raises:
      SettingsError: a file that is none, or one for a model of another depth.
    """
    e, num_layers = settings.elimination, model.config.num_layers
    if e.profile:
        try:
            return model.replace(profile=Profile.load(os.path.expanduser(e.profile))).profile
        except ValueError as error:
            raise SettingsError(f"config.elimination.profile: {error}") from None
    if e.layers:
        return e.reshape(Profile.at_layers(num_layers, e.layers))
    if e.fit == "falling":
        return e.reshape(Profile.falling(num_layers, model.reads_all))
    if not e.calibration_examples:
        return e.reshape(Profile.constant(num_layers))
    return None
