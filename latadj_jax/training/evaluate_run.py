"""A finished run evaluated again, or any model on the evaluation data of a config."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from latadj_jax.atomic_file import write_whole
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.results import Results
from latadj_jax.extras import require
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training.jobs.registry import kind_of
from latadj_jax.training.jobs.teacher import read_for
from latadj_jax.training.run_folder import load_settings, model_of
from latadj_jax.training.settings import Settings

log = logging.getLogger(__name__)


def evaluate_run(
    workdir: Path,
    alphas: Sequence[float] = (),
    dtype: str = "",
    strategy: str = "",
    speedups: Sequence[float] = (),
) -> Results:
    """Evaluates the model of a run on its evaluation data; writes eval.json beside it, if it can.

    Args:
      alphas: by default the one that the model carries, unless there are `speedups`.
      dtype: of the computation; by default the one of the training.
      strategy: what is kept, see elimination/strategies.py; by default the model's own.
      speedups: over dense, expected over the evaluation data, each text by its own length.

    Raises:
      ValueError: no run in `workdir`, or an alpha, speedup or strategy that cannot work.
    """
    _check(alphas)
    settings, folder = load_settings(workdir), model_of(workdir)
    loaded = from_pretrained(folder)  # float32, as the run that trained them holds them
    results = _evaluate(loaded, str(folder), settings, alphas, dtype, strategy, speedups)
    try:
        write_whole(workdir / "eval.json", json.dumps(results.to_json(), indent=2) + "\n")
    except OSError as error:  # of somebody else's run
        log.warning("The results were not kept: %s", error)
    return results


def evaluate_model(
    source: str,
    settings: Settings,
    alphas: Sequence[float] = (),
    dtype: str = "",
    strategy: str = "",
    speedups: Sequence[float] = (),
) -> Results:
    """The same of any finished model, on the evaluation data of these settings.

    Raises:
      ValueError: a model for another task than that of the settings, or what cannot work.
    """
    _check(alphas)
    model, params = read_for(source, settings.model.task, settings.model.strict)
    if model.task != settings.model.task:
        raise SettingsError(
            f"{source!r} is a model for {model.task}, and the data are for {settings.model.task}."
        )
    return _evaluate((model, params), source, settings, alphas, dtype, strategy, speedups)


def _check(alphas: Sequence[float]) -> None:
    """Before anything is read: the packages that measure, and the alphas."""
    require("train", "sklearn")
    for alpha in alphas:
        check_alpha(alpha)


def _evaluate(loaded, source: str, settings: Settings, alphas, dtype, strategy, speedups):
    model, params = loaded
    model = model.replace(dtype=dtype or settings.model.dtype, strategy=strategy or model.strategy)
    evaluate = kind_of(model.record).evaluator(settings, model, load_tokenizer(source))
    if not alphas and not speedups and model.alpha is not None:
        alphas = (model.alpha,)
    return evaluate(model, params, alphas=alphas, speedups=speedups)
