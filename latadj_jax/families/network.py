"""A family's base model with the head of one kind on top: what is applied, and has parameters."""

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import Family
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.output import Output


class Network(nn.Module):
    """Base model and head; their parameters lie side by side, in one tree.

    A head that writes text also has `continuation`, `begin`, `go_on` and `reorder`, see causal.py.
    """

    family: Family
    kind: str  # of the head
    cfg: HfConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        self.base = self.family.module(self.cfg, self.dtype, self.remat)
        nn.share_scope(self, self.base)
        head = self.family.heads[self.kind].module
        self.on_top = None if head is None else head(self.cfg, self.dtype, self.remat)
        if head is not None:
            nn.share_scope(self, self.on_top)

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        """Runs the base model with elimination, and the head.

        Args:
          inputs: `input_ids` [B, T], `attention_mask` bool [B, T], and what else the family reads.
          plan: counts after each layer, for the padded length T.
          restore: hidden states of all T positions, removed ones as they were when removed.
          train: dropout, from the rng stream "dropout".
        """
        if self.on_top is None:
            return self.base(inputs, plan, restore, train)
        return self.on_top(self.base, inputs, plan, restore, train)

    def continuation(self, inputs, plan: Plan, ids_BS, train: bool = False):
        """Logits after a pruned prompt and each token that follows it, float32 [B, S + 1, V]."""
        return self.on_top.continuation(self.base, inputs, plan, ids_BS, train)

    def begin(self, inputs, plan: Plan, room: int):
        """Reads a prompt: (logits of the first new token [B, V], memory with room for new ones)."""
        return self.on_top.begin(self.base, inputs, plan, room)

    def go_on(self, plan: Plan, token_B, step, memory):
        """Reads new token number `step`, from 0: (logits of the next one [B, V], memory)."""
        return self.on_top.go_on(self.base, plan, token_B, step, memory)

    def reorder(self, memory, rows_B):
        """The memory of other rows, for beams: row b becomes what row `rows[b]` was."""
        return self.on_top.reorder(memory, rows_B)
