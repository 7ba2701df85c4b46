"""What the benchmarks of causal models compare: a strategy, and the layers in which it removes."""

from typing import NamedTuple

import latadj_jax
from latadj_jax import Profile
from latadj_jax.model.model import Model


class Variant(NamedTuple):
    strategy: str
    layers: str  # "4-19": layers 4 and 19 of 1..L; "constant": every layer, the same share

    @classmethod
    def parse(cls, text: str) -> "Variant":
        strategy, _, layers = text.partition("@")
        return cls(strategy, layers or "constant")

    def __str__(self) -> str:
        return f"{self.strategy}@{self.layers}"

    def of(self, model: Model) -> Model:
        num_layers = model.config.num_layers
        if self.layers == "constant":
            profile = Profile.constant(num_layers)
        else:
            profile = Profile.at_layers(num_layers, [int(n) for n in self.layers.split("-")])
        return model.replace(profile=profile, strategy=self.strategy)


def alpha_of(model: Model, length: int, speedup: float) -> float | None:
    """The alpha of an expected speedup of the prompt pass; None, dense, for 1."""
    return None if speedup == 1 else latadj_jax.solve_alpha(model.profile, length, speedup)
