"""What word-vectors are ranked by: a function for each strategy, see strategies.py.

Each gives float32 [B, L], higher is kept first, and is handed what its parameters name.
"""

import jax
import jax.numpy as jnp

from latadj_jax.layers.norms import unit_vectors
from latadj_jax.layers.products import product

FIRST = 4  # attention sinks (Xiao et al., arXiv 2309.17453): always kept by the causal strategies
WINDOW = 8  # queries at the end of a prompt that "window" asks
RECENT_SHARE = 0.75  # of what is kept, by "window" and "novelty"
ABOVE = 2.0**21  # any score and any position; a position on top of it is exact in float32
POOL = 5  # word-vectors over which novelty is averaged, so that phrases stay whole


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


def undecided(scores_BL: jax.Array, open_BL: jax.Array) -> jax.Array:
    """The most attended of those whose answer is still open: one that is settled can go.

        rank_j = log SV_j + log o_j

    with o_j by what the head would answer for the token if it went now: the probability that its
    tag is another than the likeliest, or the larger of those that an answer begins or ends with it.

    Source: after the exits of single tokens of Li et al., arXiv 2105.13878.
    """
    return jnp.log(jnp.maximum(scores_BL, 1e-9)) + open_BL


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
