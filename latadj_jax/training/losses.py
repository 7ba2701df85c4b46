"""What a training pass predicts, and what it should have."""

import dataclasses
from typing import Any

from latadj_jax.elimination.plan import Plan
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.model.apply import apply
from latadj_jax.model.model import Model
from latadj_jax.tasks.task import Outcome


@dataclasses.dataclass
class _Passes:
    """The passes of one model, see `tasks.task.Passes`."""

    model: Model
    params: Any
    train: bool
    rngs: Any

    def whole(self, batch, plan: Plan, restore: bool = False):
        return apply(
            self.model, self.params, batch, plan=plan, restore=restore, train=self.train,
            rngs=self.rngs,
        )  # fmt: skip

    def answered(self, batch, plan: Plan):
        return self.whole(batch, self.model.head_plan(plan))

    def after(self, prompt, ids_BS, plan: Plan):
        return continuation_logits(
            self.model, self.params, prompt, ids_BS, plan=plan, train=self.train, rngs=self.rngs
        )


def outcome(model: Model, params, batch, plan: Plan, train: bool = False, rngs=None) -> Outcome:
    """The outcome of a batch, as the model's task has it; with gradients through what is kept."""
    return model.record.outcome(_Passes(model, params, train, rngs), batch, plan)
