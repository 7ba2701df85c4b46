"""The plan: profile, alpha and length come to a static number of word-vectors after each layer."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.checks import check_integer
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.cut import Cut
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.strategies import find

COUNTS = ("valid", "padded")
REMOVED = ("left", "joined")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything about elimination that is known before tracing; hashable.

    Attributes:
      length: N_0, the padded length (bucket) that a batch is compiled for.
      rates: rate_l = min(1, alpha * EP_l) per layer.
      floor: the least number of word-vectors to keep: 1, or the number of protected positions.
      min_tokens: the same for a text that has so many, protected or not.
      count: "valid": each example's counts follow its own valid length. "padded": they follow
        `length`, and padding is removed first.
      strategy: name of the strategy, see strategies.py; "" takes the one that the model carries.
      removed_as: how a head that reads every token reads a removed one. "left": as it was when it
        left. "joined": as the word-vector that it was merged into, if it was.
      skipped: the layers (from 1) that do not run; the first always does. What a skipped layer
        would remove is removed by the last layer before it that runs, so that no count gets larger.
    """

    length: int
    rates: tuple[float, ...]
    floor: int = 1
    count: str = "valid"
    strategy: str = ""
    removed_as: str = "left"
    skipped: tuple[int, ...] = ()
    min_tokens: int = 1

    def __post_init__(self):
        if not {*self.skipped} <= {*range(2, self.num_layers + 1)}:
            raise ValueError(f"skipped must lie in 2..{self.num_layers}; it is {self.skipped!r}.")

    @property
    def num_layers(self) -> int:
        return len(self.rates)

    @property
    def runs(self) -> tuple[bool, ...]:
        """Whether each layer runs."""
        return tuple(n not in self.skipped for n in range(1, self.num_layers + 1))

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Word-vectors of an example of n valid tokens after each layer: int32 [length + 1, L].

        N_l = min(N_{l-1}, max(floor, min_tokens, floor(rate_l * N_{l-1} + 1e-6))), in float64; of a
        layer that others follow which are skipped, N of the last of these.
        """
        table = np.empty((self.length + 1, self.num_layers), np.int32)
        n, least = np.arange(self.length + 1), max(self.floor, self.min_tokens)
        for layer, rate in enumerate(self.rates):
            kept = np.floor(rate * n.astype(np.float64) + 1e-6).astype(np.int64)
            n = np.minimum(n, np.maximum(least, kept))
            table[:, layer] = n
        for layer in reversed(range(1, self.num_layers)):
            if not self.runs[layer]:
                table[:, layer - 1] = table[:, layer]
        return table

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """N_1..N_L of an example that fills the whole length: sizes of the buffers."""
        return tuple(int(n) for n in self.table[self.length])

    @functools.cached_property
    def entering(self) -> np.ndarray:
        """What enters each layer, as `table` has what leaves it: int32 [length + 1, L]."""
        every = np.arange(self.length + 1, dtype=np.int32)[:, None]
        return np.concatenate([every, self.table[:, :-1]], axis=1)

    @property
    def into(self) -> tuple[int, ...]:
        """N_0..N_{L-1} of an example that fills the whole length."""
        return tuple(self.entering[self.length].tolist())

    @functools.cached_property
    def removed(self) -> tuple[int, ...]:
        """The most that each layer takes from any example: static sizes of what is removed."""
        gone = self.entering - self.table
        most = gone[self.length] if self.count == "padded" else gone.max(axis=0)
        return tuple(most.tolist())

    def example_counts(self, valid_B: jax.Array) -> jax.Array:
        """Word-vectors that examples of `valid_B` valid tokens keep: int32 [B, number of layers].

        A look-up in `table`, so that traced lengths get the float64 arithmetic all the same.
        """
        if self.count == "padded":
            return jnp.minimum(valid_B[:, None], jnp.asarray(self.counts, jnp.int32)[None, :])
        return jnp.asarray(self.table)[valid_B]

    def cuts(self, valid_B: jax.Array) -> tuple[Cut | None, ...]:
        """What each layer removes from examples of `valid_B` valid tokens; None is nothing."""
        counts_BN = self.example_counts(valid_B)
        return tuple(
            None if not cuts else Cut(
                counts_BN[:, n], self.counts[n], find(self.strategy).at(n, self.num_layers),
                self.removed[n],
            )
            for n, cuts in enumerate(self._cuts)
        )  # fmt: skip

    @property
    def _cuts(self) -> tuple[bool, ...]:
        """Whether each layer removes anything: by its own rate, or that of one skipped after it."""
        cuts = [rate < 1 for rate in self.rates]
        for layer in reversed(range(1, self.num_layers)):
            if not self.runs[layer]:
                cuts[layer - 1] |= cuts[layer]
        return tuple(cut and runs for cut, runs in zip(cuts, self.runs, strict=True))

    @property
    def merges(self) -> bool:
        """Whether anything is merged."""
        return bool(self.strategy) and any(self._cuts) and find(self.strategy).merges

    @property
    def joins(self) -> bool:
        """Whether removed tokens are read as what they were merged into."""
        return self.merges and self.removed_as == "joined"

    @property
    def draws(self) -> bool:
        """Whether it needs a random key."""
        return bool(self.strategy) and any(self._cuts) and find(self.strategy).draws

    @property
    def reads_head(self) -> bool:
        """Whether it asks the head how open its answers still are."""
        return bool(self.strategy) and any(self._cuts) and find(self.strategy).reads_head

    def for_head(self) -> "Plan":
        """The same, but the last layer leaves only what is protected: all that a classifier reads.

        Its logits are the same, and three quarters of that layer's arithmetic are saved.
        """
        return dataclasses.replace(self, rates=(*self.rates[:-1], 0.0))

    @property
    def is_dense(self) -> bool:
        """Whether it removes nothing, at any valid length, and every layer runs."""
        return min(self.rates) >= 1.0 and not self.skipped


def make_plan(
    profile: Profile,
    alpha: float | None,
    length: int,
    *,
    count: str = "valid",
    strategy: str = "",
    protected: int = 1,
    removed_as: str = "left",
) -> Plan:
    """Works out how many word-vectors each layer keeps, before anything is compiled.

        rate_l = min(1, alpha^w_l * EP_l)    (1 in a layer that the profile leaves out)
        N_l    = min(N_{l-1}, max(floor, floor(rate_l * N_{l-1} + 1e-6)))

    with the profile's exponents w, which are 1 in the paper, and a floor of the protected positions
    or its `min_tokens`, 1 in the paper. A layer whose `skip_at` is alpha or more does not run, see
    `Plan`; in the paper all layers run.

    Args:
      profile: the model's elimination profile.
      alpha: speedup coefficient, greater than 0; smaller is faster. None removes nothing.
      length: N_0, the number of tokens.
      count: "valid" or "padded", see `Plan`.
      protected: number of positions that are never removed, e.g. 1 for CLS.
      strategy: name of a strategy, or "" for the model's, see `Plan`.
      removed_as: "left" or "joined", see `Plan`.

    Raises:
      ValueError: an argument that cannot work, named.

    Source: arXiv 2201.03327, section 3.
    """
    check_profile(profile)
    check_alpha(alpha)
    check_integer("length", length, 1)
    check_integer("protected", protected, 0)
    if count not in COUNTS:
        raise ValueError(f"count must be one of {', '.join(COUNTS)}; it is {count!r}.")
    check_removed_as(removed_as)
    if strategy:
        find(strategy)
    scale = math.inf if alpha is None else float(alpha)
    rates = tuple(
        _rate(scale, ep, w) if not profile.layers or layer in profile.layers else 1.0
        for layer, (ep, w) in enumerate(zip(profile.rates, profile.exponents, strict=True), 1)
    )
    printed = float(f"{scale:g}")  # what tables and float32 make of an alpha skips the same
    skipped = tuple(layer for layer, at in enumerate(profile.skip_at, 1) if printed <= at)
    floor = max(1, int(protected))
    return Plan(
        int(length), rates, floor, count, strategy, removed_as, skipped, profile.min_tokens
    )  # fmt: skip


def _rate(alpha: float, ep: float, w: float) -> float:
    if math.isinf(alpha):
        return 1.0
    if w * math.log(alpha) + math.log(ep) >= 0:  # where alpha^w can be more than a float holds
        return 1.0
    return min(1.0, alpha**w * ep)


def check_removed_as(removed_as: str) -> None:
    """Raises ValueError for a way to read removed tokens that there is not."""
    if removed_as not in REMOVED:
        raise ValueError(f"removed_as must be one of {', '.join(REMOVED)}; it is {removed_as!r}.")


def check_profile(profile: Profile) -> None:
    """Raises ValueError unless it is a Profile."""
    if not isinstance(profile, Profile):
        raise ValueError(f"profile must be a Profile, such as model.profile; it is {profile!r}.")
