"""A family: an architecture as Hugging Face names it, and all that is known of it, in one record.

The record stands at the end of the family's own file; registry.py has a line for each.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

from flax import linen as nn

from latadj_jax.elimination.strategies import STRATEGIES, Strategy
from latadj_jax.families.hf_config import HfConfig

# Kinds of heads: what a task puts on top of a base model. A family has some of them.
BASE = "base"  # nothing, or the pooler that the family's base model has
EMBEDDING = "embedding"  # one vector for each text
SEQUENCE = "sequence"  # a row of logits for each text
TOKEN = "token"  # a row of logits for each token
SPAN = "span"  # logits that an answer starts and ends at each token
CAUSAL_LM = "causal lm"  # the next token
SEQ2SEQ = "seq2seq"  # a decoder that writes another text


@dataclasses.dataclass(frozen=True)
class Head:
    """One Hugging Face class of a family: its base model, and what stands on top.

    Attributes:
      architecture: the name of the class.
      aliases: older names of it, which config.json may still have.
      prefixed: whether its base model's tensors have the family's prefix in files.
      unread: what tensors of the base model begin with that it never reads.
      module: Flax module of (cfg, dtype, remat) that is called with (base model, inputs, plan,
        restore, train) and gives the Output; None: the base model's own is all.
      names: as `Family.names`, of what stands beside the base model.
      inputs: names of what it reads, all token ids, beside what the base model does.
      may_read: function of a config that gives what it reads where it is there, and how many values
        each input can take.
    """

    architecture: str
    module: type[nn.Module] | None = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    may_read: Callable[[HfConfig], dict[str, int]] = lambda config: {}
    aliases: tuple[str, ...] = ()
    prefixed: bool = True
    unread: tuple[str, ...] = ()

    def is_named(self, name: str) -> bool:
        """Whether a config's architecture is this class, in whatever framework it was saved."""
        return re.sub(r"^(TF|Flax)(?=[A-Z])", "", name) in (self.architecture, *self.aliases)


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
    """All that is known of one family.

    Attributes:
      config: of its models; `config.model_type` is the family's name.
      module: the base model: a Flax module of (cfg, dtype, remat), called with (inputs, plan,
        restore, train), that gives an Output without logits.
      heads: by kind.
      names: our module paths, with {n} for the number of a layer, to Hugging Face's in the base
        model, to which the classes with a head put `prefix`.
      left_over: names of tensors that another class has on top, and a model may leave behind.
      buffers: names of tensors that are computed, and not read.
      may_be_new: modules of ours that a checkpoint may lack as a whole, to be drawn anew.
      optional: prefix of tensors that a class without that part ignores: T5's decoder.
      conv1d: modules whose kernels are [in, out] in files too.
      fused: modules of theirs that are several of ours side by side, and these.
      causal: whether a query sees no later key.
      merges: whether its attention knows of word-vectors that stand for several tokens.
    """

    config: type[HfConfig]
    module: type[nn.Module]
    heads: Mapping[str, Head]
    names: Mapping[str, str]
    prefix: str
    left_over: re.Pattern
    buffers: re.Pattern
    may_be_new: tuple[str, ...] = ()
    optional: str = ""
    conv1d: tuple[str, ...] = ()
    fused: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    causal: bool = False
    merges: bool = False

    @property
    def name(self) -> str:
        return self.config.model_type

    @property
    def protected(self) -> int:
        """Positions that are never removed."""
        return int(bool(self.config.protects))

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that its models can take."""
        return tuple(name for name, strategy in STRATEGIES.items() if self.takes(strategy))

    def takes(self, strategy: Strategy) -> bool:
        return (self.causal or not strategy.causal) and (self.merges or not strategy.merges)
