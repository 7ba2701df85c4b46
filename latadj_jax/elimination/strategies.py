"""Strategies: what word-vectors are ranked by, and whether what goes is merged into what stays.

A strategy is one function and a record. The function gives each word-vector a rank, higher is kept
first; its parameters are what it needs, and it is handed nothing else:

    scores_BL     float32, the Score Vector (see score.py)
    positions_BL  int32, position in the text, ascending; -1 in an empty slot
    ids_BL        int32, token ids; without meaning in an empty slot
    x_BLD         hidden states as they enter the layer
    keys_BLE      the layer's keys, heads side by side
    count_B       int32, how many each example keeps
    key           a random key; its stream is "eliminate"
    asked_BL      float32, attention of the last WINDOW queries; of causal strategies only
    open_BL       float32, how open the head's answer for each token still is (a logarithm); of
                  models that answer for each token only, see families/token_heads.py

"score" is the paper's. "merge" and "distinct" merge what they remove; so does "undecided", which is
for tags and answers. The others are for comparison, or for the prompts of causal language models,
where nothing ranks as well in every layer. `register` adds one from outside of this package.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import jax

from latadj_jax.elimination import ranks

OFFERED = (
    "scores_BL", "positions_BL", "ids_BL", "x_BLD", "keys_BLE", "count_B", "key", "asked_BL",
    "open_BL",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Strategy:
    """What a layer keeps.

    Attributes:
      rank: function that gives float32 [B, L]; the higher is kept first. It depends on an example's
        own word-vectors alone (but "random" does not), and nothing flows back through it.
      merges: whether what is removed is averaged into what stays, see merging.py.
      causal: whether it is for the prompts of causal models only.
      compares: whether the rank compares every key with every other, which is counted as work.
      by_layer: in place of `rank`: function of (layer from 0, number of layers) that gives the
        strategy of that layer, which merges no more than this one says, draws nothing, and asks no
        head.

    Raises:
      ValueError: neither or both of `rank` and `by_layer`, or a parameter that no layer offers.
    """

    name: str
    rank: Callable[..., jax.Array] | None = None
    merges: bool = False
    causal: bool = False
    compares: bool = False
    by_layer: Callable[[int, int], "Strategy"] | None = None

    def __post_init__(self):
        if (self.rank is None) == (self.by_layer is None):
            raise ValueError(f"strategy {self.name!r} needs either rank or by_layer.")
        if unknown := sorted(self.needs - {*OFFERED}):
            raise ValueError(
                f"strategy {self.name!r} asks for {unknown[0]!r}; a layer offers "
                f"{', '.join(OFFERED)}."
            )
        if "asked_BL" in self.needs and not self.causal:
            raise ValueError(
                f"strategy {self.name!r} asks for 'asked_BL', which causal models alone offer: set "
                f"causal=True."
            )

    def at(self, layer: int, num_layers: int) -> "Strategy":
        """The strategy of one layer (from 0)."""
        if self.by_layer is None:
            return self
        chosen = self.by_layer(layer, num_layers)
        if (chosen.merges and not self.merges) or chosen.draws or chosen.reads_head:
            raise ValueError(
                f"strategy {self.name!r} takes {chosen.name!r} in layer {layer}: one by layer says "
                f"itself that it merges, draws nothing, and asks no head."
            )
        return chosen

    @functools.cached_property
    def needs(self) -> frozenset[str]:
        """The names of what `rank` takes."""
        return frozenset(inspect.signature(self.rank).parameters if self.rank else ())

    @property
    def draws(self) -> bool:
        """Whether it needs a random key: such a strategy gives no answer twice."""
        return "key" in self.needs

    @property
    def reads_head(self) -> bool:
        """Whether it asks the head for its answers so far: such a strategy is for heads that have
        one for each token."""
        return "open_BL" in self.needs


SCORE = Strategy("score", ranks.score)
MERGE = Strategy("merge", ranks.score, merges=True)
DISTINCT = Strategy("distinct", ranks.distinct, merges=True, compares=True)
UNDECIDED = Strategy("undecided", ranks.undecided, merges=True)
TAIL = Strategy("tail", ranks.tail)
RANDOM = Strategy("random", ranks.random)
RECENT = Strategy("recent", ranks.recent, causal=True)
WINDOWED = Strategy("window", ranks.window, causal=True)
NOVELTY = Strategy("novelty", ranks.novelty, causal=True)
# Novelty in the first 60 % of the layers, which asks nothing of attention; docs/results.md compares
# it with "window" in all of them.
RECALL = Strategy(
    "recall", causal=True, by_layer=lambda n, layers: NOVELTY if n < 0.6 * layers else WINDOWED
)
STRATEGIES = {
    s.name: s
    for s in (
        SCORE, RECENT, WINDOWED, NOVELTY, RECALL, TAIL, RANDOM, MERGE, DISTINCT, UNDECIDED,
    )
}  # fmt: skip


def register(strategy: Strategy) -> Strategy:
    """Adds a strategy under its name, which plans, models and commands then know.

    Raises:
      ValueError: another strategy has that name.
    """
    if STRATEGIES.setdefault(strategy.name, strategy) is not strategy:
        raise ValueError(f"there is a strategy {strategy.name!r} already; give it another name.")
    return strategy


def find(name: str) -> Strategy:
    """The strategy of that name; ValueError lists those that there are."""
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}; it is {name!r}.")
    return STRATEGIES[name]
