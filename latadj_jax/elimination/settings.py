"""Settings of elimination in a training run."""

import dataclasses
import math

from latadj_jax.checks import need, need_not_negative, need_one_of, need_positive
from latadj_jax.elimination.fits import FITS
from latadj_jax.elimination.plan import COUNTS, REMOVED
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.strategies import SCORE, STRATEGIES


@dataclasses.dataclass(frozen=True)
class EliminationSettings:
    """How tokens are removed in training, and in what is saved."""

    alpha: float = 0.9  # alpha of the training, and the default one of the saved model
    dense: bool = False  # whether to train without elimination
    # Alphas of the training, in place of `alpha`: each step draws one of them, so that one
    # checkpoint serves them all.
    alphas: tuple[float, ...] = ()
    # Whether each step trains the largest alpha, the smallest, and one drawn of the others.
    sandwich: bool = False
    # Above 0 each step also trains a dense pass, which teaches the others: this share of their loss
    # is the distance from it.
    distill: float = 0.0
    count: str = "valid"  # whether counts follow the "valid" or the "padded" length
    # Which tokens are kept, and whether the others are merged, see elimination/strategies.py;
    # "" = the model's own, which is "score" for a new one.
    strategy: str = ""
    # How removed tokens are read where each token has an answer: as they "left", or "joined" to
    # those that they were merged into; "" = the model's own, which is "left" for a new one.
    removed_as: str = ""
    # How many tokens are never removed: CLS and the first tokens of a question; 0 = the model's own
    # number, which is CLS alone for a new one.
    protected: int = 0
    # Layers (from 1) that remove tokens, at rate alpha; () = all, at the rates of the profile.
    layers: tuple[int, ...] = ()
    # The curve fitted to the measured ACC: "linear", "quadratic", "exponential" or "none"; or
    # "falling", which is set and not measured, see Profile.falling.
    fit: str = "quadratic"
    # Examples to measure ACC on; 0 = none, and the profile is 1 everywhere.
    calibration_examples: int = 512
    # Share of a speedup (of its logarithm) that comes from skipping layers, see Profile.path.
    depth: float = 0.0
    min_tokens: int = 1  # that every layer keeps of a text that has so many, see Profile
    profile: str = ""  # a file of Profile.save or `latadj search`, in place of all of these

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        need_positive("elimination.alpha", self.alpha)
        need_one_of("elimination.count", self.count, COUNTS)
        need_one_of("elimination.strategy", self.strategy or SCORE.name, STRATEGIES)
        need_one_of("elimination.removed_as", self.removed_as or REMOVED[0], REMOVED)
        need_one_of("elimination.fit", self.fit, (*FITS, "falling"))
        need_not_negative("elimination.protected", self.protected)
        need(self.min_tokens >= 1, "elimination.min_tokens", self.min_tokens, "at least 1")
        need_not_negative("elimination.calibration_examples", self.calibration_examples)
        need(0 <= self.depth <= 1, "elimination.depth", self.depth, "a share, in [0, 1]")
        if self.profile:
            need(not self.depth, "elimination.depth", self.depth, "0 with elimination.profile")
            need(not self.layers, "elimination.layers", self.layers, "() with elimination.profile")
            least = self.min_tokens
            need(least == 1, "elimination.min_tokens", least, "1 with elimination.profile")
        whole = all(isinstance(layer, int) and layer >= 1 for layer in self.layers)
        need(whole, "elimination.layers", self.layers, "numbers of layers, from 1")
        alphas = self.alphas
        real = all(isinstance(a, (int, float)) and 0 < a < math.inf for a in alphas)
        need(real, "elimination.alphas", alphas, "numbers greater than 0")
        need(len(set(alphas)) == len(alphas), "elimination.alphas", alphas, "all different")
        need(not (self.dense and alphas), "elimination.alphas", alphas, "() with elimination.dense")
        if self.sandwich:
            need(len(alphas) >= 2, "elimination.alphas", alphas, "two or more with a sandwich")
        need(0 <= self.distill <= 1, "elimination.distill", self.distill, "a share, in [0, 1]")
        if self.distill:
            need(not self.dense, "elimination.distill", self.distill, "0 with elimination.dense")

    def reshape(self, profile: Profile) -> Profile:
        """A profile of rates alone with the layers to skip, and the tokens to keep, of these."""
        return dataclasses.replace(profile.path(self.depth), min_tokens=self.min_tokens)
