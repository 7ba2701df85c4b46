"""Run settings: what a config file sets, checked and frozen once at the border.

`from_config` turns the ConfigDict of a `configs/*.py` file into these dataclasses. Unknown keys and
impossible values raise here, in one sentence, before anything is loaded.
"""

import dataclasses
import os
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.settings import EvalSettings, LMSettings
from latadj_jax.training.rules import check


@dataclasses.dataclass(frozen=True)
class ScratchSettings:
    """Sizes of a GPT-2 or T5 whose weights and tokenizer are both made from the training text."""

    vocab_size: int = 8192
    hidden_size: int = 256
    num_layers: int = 6  # of T5, in the encoder
    num_decoder_layers: int = 6  # T5 only
    num_heads: int = 8
    max_positions: int = 512  # GPT-2 only


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    # A folder, a hub id, or "package:NAME/folder" inside a package; "" is from scratch: a GPT-2 for
    # task "lm", a T5 for "seq2seq".
    source: str = "bert-base-uncased"
    task: str = "classification"
    dtype: str = "float32"  # of the computation; the trained parameters stay float32
    dropout: float = 0.1
    scratch: ScratchSettings = ScratchSettings()


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """How the devices are arranged, see mesh.py; -1, at most once, is what is left."""

    data: int = -1  # examples of a batch, beside those of fsdp
    fsdp: int = 1  # examples, and parts of the parameters and of the optimizer's state
    tensor: int = 1  # parts of every layer: heads, feed-forward


@dataclasses.dataclass(frozen=True)
class EliminationSettings:
    alpha: float = 0.9  # of training, and the default that the saved model carries
    dense: bool = False  # train without elimination
    # Of training, in place of alpha: each step draws one, so that one checkpoint serves them all.
    alphas: tuple[float, ...] = ()
    sandwich: bool = False  # each step: the largest, the smallest, and one drawn of the others
    # Above 0 each step has a dense pass too, and this share of the others' loss is their distance
    # from it.
    distill: float = 0.0
    count: str = "valid"
    # What is kept, see ranking.py, and whether the rest is merged into it, see merging.py; "" = as
    # the model carries it, which is "score" at first.
    strategy: str = ""
    layers: tuple[int, ...] = ()  # (from 1) that remove anything, at rate alpha; () = calibrate
    fit: str = "quadratic"  # of ACC; or "falling", which is not measured: see Profile.falling
    calibration_examples: int = 512  # to measure ACC on; 0 = none, and profile 1 everywhere


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    batch_size: int = 32  # of one update, over all devices
    accumulate: int = 1  # parts that a batch is computed in, one after another: less memory
    remat: bool = False  # compute activations again for the gradients: less memory, more time
    epochs: float = 3.0
    max_steps: int = 0  # 0 = as epochs say
    optimizer: str = "adamw"  # or "adafactor", what T5 was trained with; see optim.py
    learning_rate: float = 2e-5
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    checkpoint_every: int = 500  # steps
    keep: int = 2  # newest checkpoints
    # The loss on evaluation data, every so many steps; 0 = never. The best checkpoint is kept too.
    evaluate_every: int = 0
    keep_best: bool = False  # whether the best checkpoint is the model in the end, not the last
    # "rbg" compiles and draws faster on one device; with "threefry2x32" each device of several
    # draws only its own part. The numbers differ.
    generator: str = "rbg"
    log_every: int = 10
    tensorboard: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    workdir: str
    seed: int = 0
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()  # noqa: RUF009
    lm: LMSettings = LMSettings()  # noqa: RUF009
    mesh: MeshSettings = MeshSettings()
    elimination: EliminationSettings = EliminationSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()  # noqa: RUF009

    @property
    def teacher(self) -> str:
        """The model whose answers are learned; "" where labels are."""
        return self.data.teacher or ("" if self.data.labelled_by else self.model.source)


def default_config():
    """A locked ConfigDict of every setting at its default; config files start from it."""
    from ml_collections import ConfigDict  # only config files and train.py need it

    cfg = ConfigDict(dataclasses.asdict(Settings(workdir="")), convert_dict=True)
    return cfg.lock()


def check_key(key: str) -> None:
    """Raises SettingsError unless `key`, as in "config.train.batch_size", is a setting."""
    values, where = default_config().to_dict(), "config"
    for name in key.split(".")[1:]:
        if not isinstance(values, dict) or name not in values:
            raise _unknown(f"{where}.{name}", where, values if isinstance(values, dict) else ())
        values, where = values[name], f"{where}.{name}"


def from_config(config: Mapping[str, Any]) -> Settings:
    """Checked, frozen settings of a ConfigDict (or nested dict).

    Raises:
      SettingsError: a key that no setting has, or a value that cannot work.
    """
    settings = _build(Settings, dict(config), "config")
    settings = dataclasses.replace(settings, workdir=os.path.expanduser(settings.workdir))
    check(settings)
    return settings


def _build(cls, values: Mapping[str, Any], where: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise _unknown(f"{where}.{unknown[0]}", where, fields)
    built = {}
    for name, value in values.items():
        default = fields[name].default
        key = f"{where}.{name}"
        if dataclasses.is_dataclass(default):
            built[name] = _build(type(default), dict(value), key)
        else:
            built[name] = _coerce(key, default, value, fields[name].type)
    return cls(**built)


def _unknown(key: str, where: str, present: Iterable[str]) -> SettingsError:
    has = f"{where} has: {', '.join(present)}" if present else f"{where} holds no others"
    return SettingsError(f"{key} is not a setting; {has}.")


def _coerce(key: str, default: Any, value: Any, annotation: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            raise SettingsError(f"{key} must be a tuple, e.g. ('a', 'b'); it is {value!r}.")
        kind = typing.get_args(annotation)[0]
        # On a command line --config.data.labels=0,1 are numbers, though names are meant.
        value = [str(x) if kind is str and type(x) is int else x for x in value]
        return tuple(_coerce(f"{key}[{i}]", kind(), x, kind) for i, x in enumerate(value))
    if isinstance(default, bool) or isinstance(value, bool):
        ok = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        ok = isinstance(value, (int, float))
        value = float(value) if ok else value
    elif isinstance(default, int):
        ok = isinstance(value, int)
    else:
        ok = isinstance(value, str)
    if not ok:
        kind = "str" if default is dataclasses.MISSING else type(default).__name__
        raise SettingsError(f"{key} must be of type {kind}; it is {value!r}.")
    return value
