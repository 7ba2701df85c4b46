"""The library's front door: load a model, apply it."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax import convert
from latadj_jax.batch import cast_inputs, check_inputs
from latadj_jax.bert import Bert
from latadj_jax.config import BertConfig, ConfigError, config_from_hf, label_names
from latadj_jax.outputs import Output
from latadj_jax.plan import Plan, check_alpha, make_plan
from latadj_jax.profile import Profile
from latadj_jax.sources import resolve

MODULES = {"bert": Bert}
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Model:
    """A frozen, hashable description; the parameters live beside it, in a pytree.

    Attributes:
      config: the family's config.
      task: "features", "classification" or "regression".
      profile: elimination profile; 1 everywhere when None is given.
      alpha: the default speedup coefficient that the artefact carries, or None for dense.
        `apply` does not read it: it uses only what it is given.
      dtype: of the computation, "float32" or "bfloat16"; softmax, norms and scores are float32.
    """

    config: BertConfig
    task: str = "features"
    profile: Profile | None = None
    alpha: float | None = None
    dtype: str = "float32"

    def __post_init__(self):
        module = MODULES[self.config.model_type]
        if self.task not in module.tasks:
            raise ValueError(
                f"task {self.task!r} is not one of {self.config.model_type}'s: "
                f"{', '.join(module.tasks)}."
            )
        if self.task == "classification" and len(self.config.labels) < 2:
            raise ValueError("a classification needs two labels or more; pass num_labels.")
        if self.profile is None:
            object.__setattr__(self, "profile", Profile.constant(self.config.num_layers))
        if self.profile.num_layers != self.config.num_layers:
            raise ValueError(
                f"the profile has {self.profile.num_layers} layers, the model "
                f"{self.config.num_layers}; calibrate this model."
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; it is {self.dtype!r}.")
        check_alpha(self.alpha)
        if self.alpha is not None:
            object.__setattr__(self, "alpha", float(self.alpha))  # a NumPy number is no JSON

    def replace(self, **changes) -> "Model":
        """A copy with other values, e.g. `model.replace(profile=profile, alpha=0.9)`."""
        return dataclasses.replace(self, **changes)

    @property
    def module(self):
        """The Flax module that computes it."""
        module = MODULES[self.config.model_type]
        return module(self.config, self.task, jnp.dtype(self.dtype))

    def plan(self, alpha: float | None, length: int, **options) -> Plan:
        """`make_plan` with this model's profile and protected positions."""
        protected = MODULES[self.config.model_type].protected
        return make_plan(self.profile, alpha, length, protected=protected, **options)


def from_pretrained(
    source: str | os.PathLike,
    task: str | None = None,
    num_labels: int | None = None,
    dtype: str = "float32",
    *,
    seed: int = 0,
):
    """Model and parameters of a checkpoint in the Hugging Face layout.

    Args:
      source: a folder (config.json with model.safetensors, flax_model.msgpack or
        pytorch_model.bin), a hub id, or "package:NAME/folder" inside an installed package.
      task: "features", "classification" or "regression"; by default what config.json's
        architectures say.
      num_labels: of a new head, where it differs from the checkpoint's.
      dtype: of parameters and computation, "float32" or "bfloat16".
      seed: of heads that the checkpoint lacks.

    Returns:
      (model, params). The profile and default alpha come from elimination.json where there is one.

    Raises:
      ValueError: one sentence that names what is missing, unreadable or does not fit.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; it is {dtype!r}.")
    if num_labels is not None and (not isinstance(num_labels, int) or num_labels < 1):
        raise ValueError(f"num_labels must be an integer of at least 1; it is {num_labels}.")
    folder = resolve(os.fspath(source))
    hf = _read_json(folder / "config.json")
    config = config_from_hf(hf)
    own_task = _task_of(hf)
    task = task or own_task
    if num_labels is None and task == "regression" and own_task != "regression":
        num_labels = 1
    new_head = num_labels is not None and num_labels != len(config.labels)
    if new_head:
        config = config.replace(labels=label_names(num_labels))
    model = Model(config, task, dtype=dtype, **_read_elimination(folder, config.num_layers))
    tensors = convert.read_tensors(folder)
    if new_head:  # asked for by number: the checkpoint's head has another one and is left behind
        tensors = {name: t for name, t in tensors.items() if not name.startswith("classifier.")}
    params = convert.merge(
        config.model_type, param_shapes(model), tensors, dtype, seed, config.initializer_range
    )
    return model, params


def init_params(model: Model, seed: int = 0):
    """Random parameters, to train from scratch."""
    return jax.jit(_init, static_argnums=0)(model, jax.random.key(seed))


def param_shapes(model: Model):
    """The parameters' tree of ShapeDtypeStruct; computes nothing, whatever the model's size."""
    return jax.eval_shape(functools.partial(_init, model), jax.random.key(0))


def _init(model: Model, key: jax.Array):
    inputs = {"input_ids": jnp.zeros((1, 2), jnp.int32), "attention_mask": jnp.ones((1, 2), bool)}
    return model.module.init(key, inputs, model.plan(None, 2))["params"]


def apply(
    model: Model,
    params,
    batch: Mapping[str, jax.Array],
    alpha: float | None = None,
    *,
    plan: Plan | None = None,
    count: str = "valid",
    restore: bool = False,
    train: bool = False,
    rngs: Mapping[str, jax.Array] | None = None,
    return_scores: bool = False,
) -> Output:
    """Runs the model, dense (`alpha=None`) or with elimination.

    Pure: works under jit, grad, vmap and sharding. Called outside of jit it compiles once per
    (batch shape, plan), and not again.

    Args:
      batch: `input_ids` [B, T], optionally `attention_mask` [B, T] (1 = token, 0 = padding, on
        either side) and `token_type_ids` [B, T].
      alpha: speedup coefficient, a Python number greater than 0; smaller is faster.
      plan: in place of alpha and count: counts decided before, see `make_plan`.
      count: "valid": each example's counts follow its own valid length, so that its output does
        not depend on padding or companions. "padded": they follow T, as in papers that pad.
      restore: `hidden` and `positions` cover all T positions; a removed word-vector has the hidden
        state that it had when it was removed.
      train: dropout on; needs `rngs={"dropout": key}`.
      rngs: keys; strategy "random" needs "eliminate".
      return_scores: whether `out.scores` holds the Score Vector of each layer.

    Raises:
      ValueError: input that cannot work, before any compilation.
    """
    ranges = model.module.input_ranges(model.config)
    check_inputs(batch, ranges, model.config.max_positions)
    length = np.shape(batch["input_ids"])[1]
    if plan is None:
        plan = model.plan(alpha, length, count=count)
    elif not isinstance(plan, Plan):
        raise ValueError(f"plan must be a Plan, as make_plan gives it; it is {plan!r}.")
    elif alpha is not None:
        raise ValueError("alpha and plan were both given; a plan already holds its alpha.")
    elif (plan.length, plan.num_layers) != (length, model.config.num_layers):
        raise ValueError(
            f"the plan is for {plan.num_layers} layers and {plan.length} tokens, the model has "
            f"{model.config.num_layers} layers and the batch {length} tokens."
        )
    rngs = dict(rngs or {})
    for name, needed in (("dropout", train), ("eliminate", plan.strategy == "random")):
        if needed and name not in rngs:
            raise ValueError(f"this needs a key: pass rngs={{'{name}': jax.random.key(0)}}.")
    inputs = cast_inputs(batch, ranges)
    try:
        return _forward(model.module, plan, restore, train, return_scores, params, inputs, rngs)
    except (flax.errors.ScopeParamNotFoundError, flax.errors.ScopeParamShapeError):
        check_params(model, params)  # says in one sentence what differs
        raise


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _forward(module, plan, restore, train, return_scores, params, inputs, rngs):
    out = module.apply({"params": params}, inputs, plan, restore, train, rngs=rngs)
    return out if return_scores else out.replace(scores=None)


def check_params(model: Model, params) -> None:
    """Raises ValueError unless `params` has the names and shapes of the model's parameters."""
    have, want = (
        {jax.tree_util.keystr(k, simple=True, separator="/"): v.shape for k, v in leaves}
        for leaves in map(jax.tree.leaves_with_path, (params, param_shapes(model)))
    )
    if different := sorted(k for k in {*have, *want} if have.get(k) != want.get(k)):
        raise ValueError(
            f"params are not this model's: {different[0]} is {have.get(different[0], 'missing')}, "
            f"the model has {want.get(different[0], 'none')}; {len(different)} differ in all."
        )


def _task_of(hf: Mapping) -> str:
    architecture = (hf.get("architectures") or ["BertModel"])[0]
    if not architecture.endswith("ForSequenceClassification"):
        return "features"
    if hf.get("problem_type") == "multi_label_classification":
        raise ConfigError("problem_type 'multi_label_classification' is not implemented.")
    labels = hf.get("id2label") or range(hf.get("num_labels", 2))
    regression = hf.get("problem_type") == "regression" or len(labels) == 1
    return "regression" if regression else "classification"


def _read_elimination(folder: Path, num_layers: int) -> dict:
    file = folder / "elimination.json"
    if not file.exists():
        return {}
    values = _read_json(file)
    try:
        if values["format"] != 1:
            raise ValueError(f"its format is {values['format']}, this version reads 1")
        profile = Profile.from_dict(values["profile"])
        if profile.num_layers != num_layers:
            raise ValueError(f"its profile has {profile.num_layers} layers, the model {num_layers}")
        check_alpha(values["alpha"])
        return {"alpha": values["alpha"], "profile": profile}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file} cannot be used: {error}.") from None


def _read_json(file: Path) -> dict:
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{file} is not there; is {file.parent} a model folder?") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} must hold a JSON object.")
    return values
