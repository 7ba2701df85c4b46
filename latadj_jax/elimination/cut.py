"""The cut inside of a layer: what is kept of the word-vectors that entered, for every family.

A layer calls `cut_words` once the attention weights are known. Its keys and values are those of all
that entered; its queries, its output and the residual branch are those of what is kept.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.elimination.eliminate import select, take, take_positions
from latadj_jax.elimination.merging import Groups, group_removed
from latadj_jax.elimination.strategies import Strategy


@struct.dataclass
class Cut:
    """What one layer removes.

    Attributes:
      count_B: int32, word-vectors that each example keeps.
      size: K, of the buffer that holds them; at least the largest count.
      removed: at least what any example loses.
    """

    count_B: jax.Array
    size: int = struct.field(pytree_node=False)
    strategy: Strategy = struct.field(pytree_node=False)
    removed: int = struct.field(pytree_node=False, default=0)


@struct.dataclass
class Words:
    """The word-vectors of a batch, as one layer hands them to the next.

    Attributes:
      x_BLD: hidden states.
      positions_BL: int32, where each stands in the text; -1 in an empty slot.
      ids_BL: int32, its token's id; without meaning in an empty slot.
      sizes_BL: float32, how many tokens each stands for; None where nothing is ever merged.
      protected_BL: bool, which are never removed; None where any may be.
      masses_BLM: float32, what else they stand for: sums over their tokens; None where nothing is
        merged, or nobody reads them.
      owners_BT: int32, of each token of the text the position of the word-vector that it is part
        of, its own at first; None where nothing is merged, or nobody asks.
      open_BL: float32, how open the head's answer for each still is; None where nobody asks.
    """

    x_BLD: jax.Array
    positions_BL: jax.Array
    ids_BL: jax.Array
    sizes_BL: jax.Array | None = None
    protected_BL: jax.Array | None = None
    masses_BLM: jax.Array | None = None
    owners_BT: jax.Array | None = None
    open_BL: jax.Array | None = None

    @property
    def valid_BL(self) -> jax.Array:
        return self.positions_BL >= 0


@struct.dataclass
class Kept:
    """What a layer keeps: some of the word-vectors, or means of groups of them, or all."""

    keep_BK: jax.Array | None = None  # slots, as `select` gives them; None is all
    groups: Groups | None = None  # where what is removed is merged

    def queries(self, x: jax.Array, axis: int = 1) -> jax.Array:
        """Selects along `axis` the queries that are computed: those kept, or all where removed ones
        are merged."""
        forgets = self.keep_BK is not None and self.groups is None
        return take(x, self.keep_BK, axis) if forgets else x

    def attended(self, heads_BIE: jax.Array) -> jax.Array:
        """Attention output of those queries, as one row for each that is kept: [B, K, E]."""
        return heads_BIE if self.groups is None else self.groups.mean(heads_BIE)

    def rows(self, x_BLD: jax.Array) -> jax.Array:
        """Of all word-vectors those that are kept, or the means of their groups: [B, K, D]."""
        return self.attended(self.queries(x_BLD))


def cut_words(
    cut: Cut | None, words: Words, offered: Mapping[str, jax.Array | Callable[[], jax.Array]]
) -> tuple[Kept, Words]:
    """What a layer keeps, as the way to cut its arrays, and as words: the residual branch.

    Args:
      offered: what the layer has for a strategy, by the names of strategies.py: arrays, or
        functions that make them where they are needed. Merging needs `keys_BLE`.

    Returns:
      what is kept, and its words: their hidden states are those that entered, or means of them.
    """
    if cut is None:
        return Kept(), words
    keep_BK = choose(cut, words, offered)
    # One that is protected receives nothing, and one that is left alone is it, where there is one.
    merges = cut.strategy.merges and (cut.size > 1 or words.protected_BL is None)
    groups, sizes_BK, masses_BKM = None, words.sizes_BL, words.masses_BLM
    if merges:
        groups = group_removed(
            offered["keys_BLE"], keep_BK, words.valid_BL, _protected(words), words.sizes_BL,
            cut.removed,
        )  # fmt: skip
        sizes_BK = groups.sizes_BK
    elif sizes_BK is not None:
        sizes_BK = take(sizes_BK, keep_BK)
    if masses_BKM is not None:
        masses_BKM = groups.sums(masses_BKM) if merges else take(masses_BKM, keep_BK)
    kept = Kept(keep_BK, groups)
    positions_BK = take_positions(words.positions_BL, keep_BK)
    protected_BK = words.protected_BL
    if protected_BK is not None:
        protected_BK = take(protected_BK, keep_BK) & (positions_BK >= 0)
    x_BKD, ids_BK = kept.rows(words.x_BLD), take(words.ids_BL, keep_BK)
    owners_BT = words.owners_BT
    if owners_BT is not None and merges:
        owners_BT = groups.owners(owners_BT, words.positions_BL)
    return kept, Words(x_BKD, positions_BK, ids_BK, sizes_BK, protected_BK, masses_BKM, owners_BT)


def choose(cut: Cut, words: Words, offered) -> jax.Array:
    """Slots of the word-vectors that are kept, int32 [B, K]."""
    have = {
        "x_BLD": words.x_BLD,
        "positions_BL": words.positions_BL,
        "ids_BL": words.ids_BL,
        "count_B": cut.count_B,
        "open_BL": words.open_BL,
        **offered,
    }
    given = {name: have[name] for name in cut.strategy.needs}
    given = {name: value() if callable(value) else value for name, value in given.items()}
    ranking_BL = cut.strategy.rank(**given).astype(jnp.float32)
    return select(ranking_BL, words.valid_BL, _protected(words), cut.count_B, cut.size)


def _protected(words: Words) -> jax.Array:
    none = words.protected_BL is None
    return jnp.zeros_like(words.valid_BL) if none else words.protected_BL
