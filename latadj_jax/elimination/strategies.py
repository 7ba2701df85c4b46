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

"score" is the paper's. "merge" and "distinct" merge what they remove. The others are for
comparison, or for the prompts of causal language models, where nothing ranks as well in every
layer. `register` adds one from outside of this package.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from latadj_jax.layers.norms import unit_vectors
from latadj_jax.layers.products import product

OFFERED = (
    "scores_BL", "positions_BL", "ids_BL", "x_BLD", "keys_BLE", "count_B", "key", "asked_BL",
)  # fmt: skip
FIRST = 4  # attention sinks (Xiao et al., arXiv 2309.17453): always kept by the causal strategies
WINDOW = 8  # queries at the end of a prompt that "window" asks
RECENT_SHARE = 0.75  # of what is kept, by "window" and "novelty"
ABOVE = 2.0**21  # any score and any position; a position on top of it is exact in float32
POOL = 5  # word-vectors over which novelty is averaged, so that phrases stay whole


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
        strategy of that layer, which merges and draws no more than this one says.

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
        if (chosen.merges and not self.merges) or chosen.draws:
            raise ValueError(
                f"strategy {self.name!r} takes {chosen.name!r} in layer {layer}: one by layer says "
                f"itself that it merges, and draws nothing."
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


def score(scores_BL: jax.Array) -> jax.Array:
    """The most attended, as in the paper."""
    return scores_BL


def distinct(keys_BLE: jax.Array, scores_BL: jax.Array, positions_BL: jax.Array) -> jax.Array:
    """Of two word-vectors alike the less attended one goes: best is what is like no better one.

        c_j = max over i with SV_i > SV_j of cos(k_j, k_i),   rank_j = -c_j

    The likeness is that by which merging chooses, see merging.py: what goes has where to go.
    """
    unit_BLE = unit_vectors(jax.lax.stop_gradient(keys_BLE))
    alike_BLL = product("BIE,BJE->BIJ", unit_BLE, unit_BLE)
    slots_L = jnp.arange(keys_BLE.shape[1], dtype=jnp.int32)
    earlier_1LL = (slots_L[None, :] < slots_L[:, None])[None]
    own_BL1, other_B1L = scores_BL[:, :, None], scores_BL[:, None, :]
    better_BLL = (other_B1L > own_BL1) | ((other_B1L == own_BL1) & earlier_1LL)
    better_BLL &= (positions_BL >= 0)[:, None, :]
    return -jnp.where(better_BLL, alike_BLL, -1.0).max(axis=2)


def recent(positions_BL: jax.Array) -> jax.Array:
    """The later the better, but the first four best of all.

    Source: Xiao et al., arXiv 2309.17453 (attention sinks).
    """
    first_BL = (positions_BL >= 0) & (positions_BL < FIRST)
    return jnp.where(first_BL, ABOVE, positions_BL.astype(jnp.float32))


def tail(positions_BL: jax.Array) -> jax.Array:
    """The first ones: the tail of the text goes."""
    return -positions_BL.astype(jnp.float32)


def random(positions_BL: jax.Array, key: jax.Array) -> jax.Array:
    """Any: one draw per row and slot of the buffer, so that it depends on the batch."""
    return jax.random.uniform(key, positions_BL.shape)


def window(asked_BL: jax.Array, positions_BL: jax.Array, count_B: jax.Array) -> jax.Array:
    """The latest and the first four; of the others what the last queries attend to.

    Source: Li et al., arXiv 2404.14469 (SnapKV).
    """
    return with_recent(asked_BL, positions_BL, count_B)


def novelty(x_BLD: jax.Array, positions_BL: jax.Array, count_B: jax.Array) -> jax.Array:
    """The latest and the first four; of the others what resembles its neighbours least."""
    return with_recent(unlike_neighbours(x_BLD, positions_BL >= 0), positions_BL, count_B)


def with_recent(ranking_BL: jax.Array, positions_BL: jax.Array, count_B: jax.Array) -> jax.Array:
    """`ranking`, but the first four and the latest three quarters of what is kept stand above it.

    Args:
      positions_BL: ascending, -1 behind the last.
      count_B: int32, how many are kept.
    """
    valid_BL = positions_BL >= 0
    slots_1L = jnp.arange(positions_BL.shape[1], dtype=jnp.int32)[None, :]
    from_end_BL = valid_BL.sum(axis=1, dtype=jnp.int32)[:, None] - slots_1L  # 1 is the last
    num_recent_B1 = (count_B.astype(jnp.float32) * RECENT_SHARE).astype(jnp.int32)[:, None]
    above_BL = valid_BL & ((from_end_BL <= num_recent_B1) | (positions_BL < FIRST))
    return jnp.where(above_BL, recent(positions_BL) + ABOVE, ranking_BL)


def unlike_neighbours(x_BLD: jax.Array, valid_BL: jax.Array) -> jax.Array:
    """How little each word-vector resembles the ones before and after it, averaged over five.

        c_j = cos(x_j, x_{j-1}) + cos(x_j, x_{j+1}),   novelty_j = -mean of c over j-2..j+2

    It asks nothing of attention, which in lower layers does not know yet what will be needed.

    Args:
      x_BLD: hidden states as they enter a layer; valid ones first.

    Returns:
      float32 [B, L].
    """
    x_BLD = x_BLD.astype(jnp.float32)
    length_BL1 = jnp.sqrt(jnp.square(x_BLD).sum(axis=-1, keepdims=True))
    unit_BLD = x_BLD / jnp.maximum(length_BL1, 1e-6)
    pairs_BL = (unit_BLD[:, 1:] * unit_BLD[:, :-1]).sum(axis=-1)  # j with j + 1
    pairs_BL = jnp.where(valid_BL[:, 1:], pairs_BL, -1.0)
    nothing_B1 = jnp.full_like(x_BLD[:, :1, 0], -1.0)
    before_BL = jnp.concatenate([nothing_B1, pairs_BL], axis=1)
    after_BL = jnp.concatenate([pairs_BL, nothing_B1], axis=1)
    alike_BL = jnp.where(valid_BL, before_BL + after_BL, 0.0)
    return -_around(alike_BL) / jnp.maximum(_around(valid_BL.astype(jnp.float32)), 1.0)


def _around(x_BL: jax.Array) -> jax.Array:
    """Sums over POOL neighbours."""
    return jax.lax.reduce_window(x_BL, 0.0, jax.lax.add, (1, POOL), (1, 1), "SAME")


SCORE = Strategy("score", score)
MERGE = Strategy("merge", score, merges=True)
DISTINCT = Strategy("distinct", distinct, merges=True, compares=True)
TAIL = Strategy("tail", tail)
RANDOM = Strategy("random", random)
RECENT = Strategy("recent", recent, causal=True)
WINDOWED = Strategy("window", window, causal=True)
NOVELTY = Strategy("novelty", novelty, causal=True)
# Novelty in the first 60 % of the layers, which asks nothing of attention; docs/results.md compares
# it with "window" in all of them.
RECALL = Strategy(
    "recall", causal=True, by_layer=lambda n, layers: NOVELTY if n < 0.6 * layers else WINDOWED
)
STRATEGIES = {
    s.name: s for s in (SCORE, RECENT, WINDOWED, NOVELTY, RECALL, TAIL, RANDOM, MERGE, DISTINCT)
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
