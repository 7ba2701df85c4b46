"""A model as a frozen, hashable description; its parameters live beside it, in a pytree."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp

from latadj_jax.checks import DTYPES, check_integer
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.plan import Plan, check_profile, check_removed_as, make_plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.speedup import Lengths, solve_alpha
from latadj_jax.elimination.strategies import Strategy, find
from latadj_jax.families.embedding import PROMPT
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.families.family import Family, Head
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.network import Network
from latadj_jax.families.registry import FAMILIES
from latadj_jax.tasks.features import FEATURES
from latadj_jax.tasks.registry import TASKS, tasks_of
from latadj_jax.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Model:
    """Describes a model without its parameters; frozen and hashable.

    Attributes:
      config: the family's config.
      task: name of the task, see `from_pretrained`.
      profile: elimination profile; None becomes 1 everywhere.
      alpha: default speedup coefficient, which is saved with the model; None is dense. Engines,
        commands and evaluations use it. `apply` does not: it uses only what it is given.
      dtype: dtype of the computation, "float32" or "bfloat16"; softmax, norms and scores are always
        float32.
      strategy: name of the strategy: how word-vectors are ranked, and whether removed ones are
        merged. A plan may name another.
      removed_as: how a head that reads every token reads a removed one, see `Plan`.
      protected: number of word-vectors that are never removed: CLS or the last token, and the first
        of those that the input "protected" marks, which BERT and RoBERTa read. None is the family's
        own number.
      remat: whether gradients compute each layer's activations again, which saves their memory.
    """

    config: HfConfig
    task: str = "features"
    profile: Profile = None  # type: ignore[assignment]  # set below
    alpha: float | None = None
    dtype: str = "float32"
    strategy: str = "score"
    removed_as: str = "left"
    protected: int | None = None
    remat: bool = False

    def __post_init__(self):
        tasks = tasks_of(self.family)
        if self.task not in tasks:
            raise ValueError(
                f"task {self.task!r} is not one of {self.family.name}'s: {', '.join(tasks)}."
            )
        self.record.check(self.config)
        if self.profile is None:
            object.__setattr__(self, "profile", Profile.constant(self.config.num_layers))
        check_profile(self.profile)
        if self.profile.num_layers != self.config.num_layers:
            raise ValueError(
                f"the profile has {self.profile.num_layers} layers, the model "
                f"{self.config.num_layers}; calibrate this model."
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; it is {self.dtype!r}.")
        self.check_strategy(self.strategy)
        check_removed_as(self.removed_as)
        if self.protected is not None:
            check_integer("protected", self.protected, 1)
        check_alpha(self.alpha)
        if self.alpha is not None:
            object.__setattr__(self, "alpha", float(self.alpha))  # a NumPy number is no JSON

    def replace(self, **changes) -> "Model":
        """A copy with other values, e.g. `model.replace(profile=profile, alpha=0.9)`."""
        return dataclasses.replace(self, **changes)

    def check_strategy(self, strategy: str) -> None:
        """Raises ValueError for one that is unknown, or not of this family, or not of this task."""
        if not self.family.takes(find(strategy)):
            raise ValueError(
                f"strategy {strategy!r} is for other models; {self.family.name} has: "
                f"{', '.join(self.family.strategies)}."
            )
        if not self.takes(find(strategy)):
            raise ValueError(
                f"strategy {strategy!r} is for models that answer for each token, tags or answers; "
                f"this one is for {self.task!r}."
            )

    def takes(self, strategy: Strategy) -> bool:
        """Whether it can have that strategy."""
        return self.family.takes(strategy) and (self.record.per_token or not strategy.reads_head)

    @property
    def family(self) -> Family:
        """All that is known of its architecture."""
        return FAMILIES[self.config.model_type]

    @property
    def record(self) -> Task:
        """All that is known of its task."""
        return TASKS[self.task]

    @property
    def module(self) -> Network:
        """The Flax module that computes it."""
        return Network(
            self.family, self.record.head, self.config, jnp.dtype(self.dtype), self.remat
        )

    @property
    def input_ranges(self) -> dict[str, int]:
        """The inputs that it reads beside the mask, and how many values each can take."""
        base: Any = self.family.module
        ranges = base.input_ranges(self.config) | self.head.may_read(self.config)
        return ranges | dict.fromkeys(self.head_inputs, self.config.vocab_size)

    def inputs_of(self, tokenizer) -> tuple[str, ...]:
        """Those that are made of a text, beside the mask."""
        marks = (PROTECTED,) if self.reads_marks else ()
        names = (*tokenizer.model_input_names, PROMPT, *marks)
        return tuple(name for name in names if name in self.input_ranges)

    @property
    def head(self) -> Head:
        """What stands on top of the base model."""
        return self.family.heads[self.record.head]

    @property
    def row_width(self) -> int:
        """How many numbers it gives for each text: labels, or the width of an embedding."""
        if self.record.width is None:
            raise ValueError(f"a model of task {self.task!r} gives no row for each text.")
        return self.record.width(self.config)

    @property
    def head_inputs(self) -> tuple[str, ...]:
        """What its head reads beside what the base model does, and cannot do without."""
        return self.head.inputs

    def check_start(self) -> None:
        """Raises ValueError for a model that writes targets and does not know how one begins."""
        if self.head_inputs and self.config.decoder_start is None:
            raise ValueError(
                "the model's config.json has no decoder_start_token_id, the token that every "
                "target begins with; add it (T5's is the id of the padding token)."
            )

    @property
    def encoder(self) -> "Model":
        """Of a model that writes, what it reads with, and the same parameters; else the model."""
        return self.replace(task=FEATURES.name) if self.record.writes else self

    @property
    def reads_all(self) -> bool:
        """Whether its head reads every word-vector that is left, or the protected ones alone."""
        return self.record.reads_all(self.config)

    def head_plan(self, plan: Plan) -> Plan:
        """The plan without what its head does not read."""
        return plan if self.reads_all else plan.for_head()

    @property
    def num_protected(self) -> int:
        """Word-vectors that are never removed."""
        return self.family.protected if self.protected is None else int(self.protected)

    @property
    def reads_marks(self) -> bool:
        """Whether it reads pairs of texts, and tokens of the first may stay beside CLS."""
        more = self.num_protected > self.family.protected
        return more and self.record.reads_pairs and PROTECTED in self.input_ranges

    def plan(self, alpha: float | None, length: int, **options) -> Plan:
        """`make_plan` with this model's profile, strategy and protected positions."""
        self.check_strategy(options.get("strategy", self.strategy))
        own = {
            "strategy": self.strategy, "protected": self.num_protected,
            "removed_as": self.removed_as,
        }  # fmt: skip
        return make_plan(self.profile, alpha, length, **{**own, **options})

    def solve_alpha(self, lengths: Lengths, speedup: float, *, reads_all: bool = True) -> float:
        """`solve_alpha` with this model's profile and protected positions."""
        return solve_alpha(
            self.profile, lengths, speedup, protected=self.num_protected, reads_all=reads_all
        )


def check_model(model) -> None:
    """Raises ValueError unless it is a Model."""
    if not isinstance(model, Model):
        raise ValueError(
            f"model must be a Model, the first that from_pretrained gives; it is a "
            f"{type(model).__name__}."
        )


def param_shapes(model: Model):
    """The parameters' tree of ShapeDtypeStruct; computes nothing, whatever the model's size."""
    return jax.eval_shape(lambda: random_params(model, jax.random.key(0)))


def random_params(model: Model, key: jax.Array):
    """Parameters drawn before any training, from the distributions that Hugging Face draws from.

    But T5's relative bias has standard deviation 1, not one over the root of the width, with which
    a small one learned less (docs/results.md), and its norms start at 1 whatever the config says.
    """
    ids = jnp.zeros((1, 2), jnp.int32)
    inputs = {"input_ids": ids, "attention_mask": ids == 0, "decoder_input_ids": ids}
    return model.module.init(key, inputs, model.plan(None, 2))["params"]


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


def resolve_plan(
    model: Model, alpha: float | None, plan: Plan | None, count: str, length: int
) -> Plan:
    """The plan of a call: the one given, or that of alpha; ValueError if it does not fit."""
    if plan is None:
        return model.plan(alpha, length, count=count)
    if not isinstance(plan, Plan):
        raise ValueError(f"plan must be a Plan, as make_plan gives it; it is {plan!r}.")
    if alpha is not None:
        raise ValueError("alpha and plan were both given; a plan already holds its alpha.")
    if count not in ("valid", plan.count):  # "valid" is what a call says that says nothing
        raise ValueError(f"count is {count!r}, the plan's is {plan.count!r}; leave count out.")
    if (plan.length, plan.num_layers) != (length, model.config.num_layers):
        raise ValueError(
            f"the plan is for {plan.num_layers} layers and {plan.length} tokens, the model has "
            f"{model.config.num_layers} layers and the batch {length} tokens."
        )
    plan = dataclasses.replace(plan, strategy=plan.strategy or model.strategy)
    model.check_strategy(plan.strategy)
    return plan


def resolve_rngs(plan: Plan, train: bool, rngs: Mapping[str, jax.Array] | None) -> dict:
    """The keys of a call; ValueError names one that it needs and has not."""
    if rngs is not None and not isinstance(rngs, Mapping):
        raise ValueError(f"rngs must be a dict of keys, e.g. {{'dropout': key}}; it is {rngs!r}.")
    rngs = dict(rngs or {})
    for name, key in rngs.items():
        check_key(f"rngs[{name!r}]", key)
    for name, needed in (("dropout", train), ("eliminate", plan.draws)):
        if needed and name not in rngs:
            raise ValueError(f"this needs a key: pass rngs={{'{name}': jax.random.key(0)}}.")
    return rngs


def check_key(name: str, key) -> None:
    """Raises ValueError unless it is a key, as jax.random.key or jax.random.PRNGKey makes it."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        is_key = shape == ()
    else:  # of PRNGKey: two words of the default generator, or four of rbg
        is_key = dtype == jnp.uint32 and shape in ((2,), (4,))
    if not is_key:
        raise ValueError(f"{name} must be a key, as jax.random.key(0) makes it; it is {key!r}.")


def rngs_for(plan: Plan) -> dict[str, jax.Array] | None:
    """The key that a plan needs where its results must repeat."""
    return {"eliminate": jax.random.key(0)} if plan.draws else None


@contextlib.contextmanager
def checked_params(model: Model, params) -> Iterator[None]:
    """Says in one sentence what is wrong with parameters that flax could not use."""
    try:
        yield
    except (
        flax.errors.ScopeParamNotFoundError,
        flax.errors.ScopeParamShapeError,
        flax.errors.ScopeCollectionNotFound,
        flax.errors.ApplyScopeInvalidVariablesTypeError,
        flax.errors.ApplyScopeInvalidVariablesStructureError,
    ):
        check_params(model, params)
        raise
