"""Settings of elimination in a training run."""

import dataclasses
import math

from latadj_jax.checks import need, need_not_negative, need_one_of, need_positive
from latadj_jax.elimination.plan import COUNTS, REMOVED
from latadj_jax.elimination.profile import FITS
from latadj_jax.elimination.strategies import SCORE, STRATEGIES


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
    # What is kept, see elimination/strategies.py, and whether the rest is merged into it; "" = as
    # the model carries it, which is "score" at first.
    strategy: str = ""
    # How removed tokens are read where each token has an answer: as they "left", or "joined" to
    # what they were merged into; "" = as the model carries it, which is "left" at first.
    removed_as: str = ""
    # How many word-vectors are never removed: CLS and the first tokens of a question; 0 = as the
    # model carries it, which is CLS alone at first.
    protected: int = 0
    layers: tuple[int, ...] = ()  # (from 1) that remove anything, at rate alpha; () = calibrate
    fit: str = "quadratic"  # of ACC; or "falling", which is not measured: see Profile.falling
    calibration_examples: int = 512  # to measure ACC on; 0 = none, and profile 1 everywhere
    # Of a speedup (its logarithm) the share that skipping layers reaches, see Profile.path.
    depth: float = 0.0
    profile: str = ""  # a file of Profile.save or `latadj search`, in place of all of these

    def check(self) -> None:
        """Raises SettingsError for a value that cannot work."""
        need_positive("elimination.alpha", self.alpha)
        need_one_of("elimination.count", self.count, COUNTS)
        need_one_of("elimination.strategy", self.strategy or SCORE.name, STRATEGIES)
        need_one_of("elimination.removed_as", self.removed_as or REMOVED[0], REMOVED)
        need_one_of("elimination.fit", self.fit, (*FITS, "falling"))
        need_not_negative("elimination.protected", self.protected)
        need_not_negative("elimination.calibration_examples", self.calibration_examples)
        need(0 <= self.depth <= 1, "elimination.depth", self.depth, "a share, in [0, 1]")
        if self.profile:
            need(not self.depth, "elimination.depth", self.depth, "0 with elimination.profile")
            need(not self.layers, "elimination.layers", self.layers, "() with elimination.profile")
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
