"""Run settings: what a config file sets, checked and frozen once at the border.

`from_config` turns the ConfigDict of a `configs/*.py` file into these dataclasses. Unknown keys and
impossible values raise here, in one sentence, before anything is loaded.
"""

import dataclasses
import os
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from latadj_jax.rules import SettingsError, check


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
class DataSettings:
    """Where examples come from: `path` when it is set, the hub otherwise."""

    # the hub
    hub: str = ""  # data set id, e.g. "nyu-mll/glue"
    hub_config: str = ""  # e.g. "sst2"
    train_split: str = "train"
    eval_splits: tuple[str, ...] = ("validation",)
    text_columns: tuple[str, ...] = ("text",)  # one text, or two for a pair
    # Of "seq2seq" the target text. "" = there are none: a teacher answers instead.
    label_column: str = "label"
    # A fine-tuned model whose dense answers are learned, see teacher.py; labels are for evaluation
    # only then. "" = nobody, or where there are no labels at all model.source itself.
    teacher: str = ""
    # local files take the place of the hub
    path: str = ""  # a folder, one file, or "package:NAME/file"
    # A text file named by its column, train.en for column "en", has a row in each line, and those
    # of the other column in a file beside it, train.de.
    train_file: str = "train.tsv"
    eval_files: tuple[str, ...] = ("dev.tsv",)
    local_text_columns: tuple[str, ...] = ()  # () = as on the hub; "3" = column 3 (from 0)
    local_label_column: str = ""
    local_header: bool = True
    local_quoting: bool = False  # whether fields may be quoted, as in CSV (.csv always are)
    eval_fraction: float = 0.1  # of one single file, held out by a stratified split
    # both
    labels: tuple[str, ...] = ()  # names in the order of their ids; () = read from the data
    max_length: int = 128  # tokens
    max_target_length: int = 128  # tokens, of "seq2seq"
    truncate: bool = False  # whether a text longer than that is cut, or refused
    buckets: tuple[int, ...] = ()  # padded lengths; () = 16, 24, 32, 48, ... max_length
    max_train_examples: int = 0  # 0 = all
    max_eval_examples: int = 0

    @property
    def labelled_by(self) -> str:
        """The column of labels; "" where there is none."""
        return (self.path and self.local_label_column) or self.label_column


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
class EvalSettings:
    alphas: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)  # dense is always added
    metrics: tuple[str, ...] = ("accuracy",)
    batch_size: int = 32
    num_beams: int = 1  # of "seq2seq": how targets are generated, see beam.py
    timing_repeats: int = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    workdir: str
    seed: int = 0
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    lm: LMSettings = LMSettings()
    mesh: MeshSettings = MeshSettings()
    elimination: EliminationSettings = EliminationSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()

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
