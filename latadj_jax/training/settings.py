"""Run settings: what a config file sets, checked and frozen once at the border.

`from_config` turns the ConfigDict of a `configs/*.py` file into these dataclasses. Unknown keys and
impossible values raise here, in one sentence, before anything is loaded: each section checks its
own values, and `Settings.check` what must hold between two of them.
"""

import dataclasses
import os
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from latadj_jax.checks import DTYPES, need, need_not_negative, need_one_of, need_positive
from latadj_jax.data.settings import DataSettings
from latadj_jax.elimination.fits import FITS
from latadj_jax.elimination.settings import EliminationSettings
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.settings import EvalSettings, LMSettings
from latadj_jax.tasks.registry import TASKS


@dataclasses.dataclass(frozen=True)
class ScratchSettings:
    """Sizes of a GPT-2 or T5 whose weights and tokenizer are both made from the training text."""

    vocab_size: int = 8192  # tokens of the tokenizer that is trained
    hidden_size: int = 256  # width of the model
    num_layers: int = 6  # number of layers; for T5 those of the encoder
    num_decoder_layers: int = 6  # number of decoder layers, T5 only
    num_heads: int = 8  # attention heads
    max_positions: int = 512  # longest text, GPT-2 only

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        for size, value in vars(self).items():
            need_positive(f"model.scratch.{size}", value)


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Which model is trained."""

    # A folder, a hub id, or "package:NAME/folder" inside a package. "" = from scratch: a GPT-2 for
    # task "lm", a T5 for "seq2seq".
    source: str = "bert-base-uncased"
    task: str = "classification"  # what the model is trained for, see from_pretrained
    dtype: str = "float32"  # dtype of the computation; trained parameters stay float32
    dropout: float = 0.1  # dropout rate
    strict: bool = True  # whether to refuse tensors that no known class of the family has
    scratch: ScratchSettings = ScratchSettings()

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        need_one_of("model.task", self.task, [name for name, task in TASKS.items() if task.metrics])
        need_one_of("model.dtype", self.dtype, DTYPES)
        need(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")
        self.scratch.check()


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """How the devices are arranged, see docs/scaling.md; -1, at most once, is what is left."""

    data: int = -1  # parts of a batch, beside those of fsdp
    fsdp: int = 1  # parts of a batch, of the parameters and of the optimizer's state
    tensor: int = 1  # parts of every layer: heads, feed-forward

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        sizes = (self.data, self.fsdp, self.tensor)
        need(all(n == -1 or n >= 1 for n in sizes), "mesh", sizes, "sizes of at least 1, or -1")
        need(sizes.count(-1) <= 1, "mesh", sizes, "-1 for one axis at most")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How the model is trained."""

    batch_size: int = 32  # examples of one update, over all devices
    accumulate: int = 1  # compute a batch in so many parts, one after another: saves memory
    remat: bool = False  # compute activations again for the gradients: saves memory, costs time
    epochs: float = 3.0  # passes over the training data
    max_steps: int = 0  # number of updates; 0 = as many as the epochs have
    optimizer: str = "adamw"  # "adamw", or "adafactor", which T5 was trained with
    learning_rate: float = 2e-5  # highest learning rate; it falls linearly to 0
    warmup: float = 0.1  # share of all steps over which the learning rate rises
    weight_decay: float = 0.01  # decoupled weight decay
    clip_norm: float = 1.0  # global norm that gradients are clipped to
    checkpoint_every: int = 500  # steps between checkpoints
    keep: int = 2  # number of newest checkpoints that stay
    # Steps between losses on the evaluation data; 0 = never. The best checkpoint stays, too.
    evaluate_every: int = 0
    keep_best: bool = False  # whether the best checkpoint becomes the model, not the last one
    # Random generator: "rbg" compiles and draws faster on one device; with "threefry2x32" each of
    # several devices draws only its own part. Their numbers differ.
    generator: str = "rbg"
    log_every: int = 10  # steps between lines of the log
    tensorboard: bool = False  # whether to write TensorBoard files, too

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        need_positive("train.accumulate", self.accumulate)
        whole = self.batch_size % self.accumulate == 0
        rule = f"a divisor of train.batch_size, {self.batch_size}"
        need(whole, "train.accumulate", self.accumulate, rule)
        need_positive("train.keep", self.keep)
        need_positive("train.checkpoint_every", self.checkpoint_every)
        need_not_negative("train.evaluate_every", self.evaluate_every)
        if self.evaluate_every:
            whole = self.evaluate_every % self.checkpoint_every == 0
            rule = f"a multiple of train.checkpoint_every, {self.checkpoint_every}"
            need(whole, "train.evaluate_every", self.evaluate_every, rule)
        if self.keep_best:
            need(self.evaluate_every > 0, "train.evaluate_every", 0, "above 0 with train.keep_best")
        need_one_of("train.generator", self.generator, ("rbg", "threefry2x32"))
        need_positive("train.batch_size", self.batch_size)
        need_positive("train.epochs", self.epochs)
        need_not_negative("train.max_steps", self.max_steps)
        need_one_of("train.optimizer", self.optimizer, ("adamw", "adafactor"))
        if self.optimizer == "adafactor":
            need(
                self.weight_decay == 0, "train.weight_decay", self.weight_decay, "0 with adafactor"
            )
        need_positive("train.learning_rate", self.learning_rate)
        need(0 <= self.warmup < 1, "train.warmup", self.warmup, "in [0, 1), a share of all steps")
        need_not_negative("train.weight_decay", self.weight_decay)
        need_positive("train.clip_norm", self.clip_norm)
        need_positive("train.log_every", self.log_every)


@dataclasses.dataclass(frozen=True)
class Settings:
    workdir: str  # folder that everything is written to
    seed: int = 0  # seed of new heads, of the order of examples, and of dropout
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()  # noqa: RUF009
    lm: LMSettings = LMSettings()  # noqa: RUF009
    mesh: MeshSettings = MeshSettings()
    elimination: EliminationSettings = EliminationSettings()  # noqa: RUF009
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()  # noqa: RUF009

    @property
    def teacher(self) -> str:
        """The model whose answers are learned; "" where labels are."""
        return self.data.teacher or ("" if self.data.labelled_by else self.model.source)

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work, alone or beside another section's."""
        need(bool(self.workdir), "workdir", self.workdir, "the folder that results go to")
        need(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2^32)")
        for section in (
            self.model, self.data, self.lm, self.mesh, self.elimination, self.train, self.eval,
        ):  # fmt: skip
            section.check()
        task, record = self.model.task, TASKS[self.model.task]
        if record.compares_rows:
            rule = f"1 for {task}, whose loss compares the texts of a batch"
            need(self.train.accumulate == 1, "train.accumulate", self.train.accumulate, rule)
        if not (record.writes or self.model.source):
            raise SettingsError(f"config.model.source names no model for a {task}.")
        if self.data.teacher:
            rule = f"'' for a model of task {task}"
            need(not record.writes, "data.teacher", self.data.teacher, rule)
        fit = self.elimination.fit
        if fit == "falling":
            rule = f"one of {', '.join(FITS)} for a model of task {task}"
            need(not record.writes, "elimination.fit", fit, rule)
        if record.labels == "text":
            need(bool(self.data.labelled_by), "data.label_column", "", "the column of target texts")
            for key in ("text_columns", "local_text_columns"):
                columns = getattr(self.data, key) or ("",)
                need(len(columns) == 1, f"data.{key}", columns, "one, the source")
            heads, width = self.model.scratch.num_heads, self.model.scratch.hidden_size
            rule = f"a multiple of {heads} heads"
            need(width % heads == 0, "model.scratch.hidden_size", width, rule)
        for metric in self.eval.metrics:
            need_one_of(f"eval.metrics of a {task}", metric, record.metrics)


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
    settings.check()
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
