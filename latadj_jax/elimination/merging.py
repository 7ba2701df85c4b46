"""Token merging: what is removed is averaged into what stays, in place of being forgotten."""

import jax
import jax.numpy as jnp
from flax import struct

from latadj_jax.elimination.eliminate import indices_where, put_back, take, take_positions
from latadj_jax.layers.norms import unit_vectors
from latadj_jax.layers.products import product


@struct.dataclass
class Groups:
    """Which kept word-vector each removed one goes into.

    Attributes:
      keep_BK, gone_BR: int32 indices of the kept and of the removed word-vectors, ascending; one
        past the end where there is none.
      into_BKR: bool, True where a removed one goes into a kept one; nowhere if nothing may receive.
      before_BL, sizes_BK: float32, how many tokens each word-vector stands for, before and after.
    """

    keep_BK: jax.Array
    gone_BR: jax.Array
    into_BKR: jax.Array
    before_BL: jax.Array
    sizes_BK: jax.Array

    def mean(self, x_BLD: jax.Array) -> jax.Array:
        """The mean of each group, weighted by how many tokens its members stand for.

            x_i <- (s_i x_i + sum_j s_j x_j) / (s_i + sum_j s_j),   j removed into i

        Args:
          x_BLD: what entered the layer, or what its attention gave, of all word-vectors.

        Returns:
          [B, K, D], in the dtype that came in; sums are float32.
        """
        weighted_BLD = x_BLD.astype(jnp.float32) * self.before_BL[:, :, None]
        sums_BKD = self.sums(weighted_BLD.astype(x_BLD.dtype))
        return (sums_BKD / self.sizes_BK[:, :, None]).astype(x_BLD.dtype)

    def sums(self, x_BLD: jax.Array) -> jax.Array:
        """The sum of each group, float32 [B, K, D]."""
        gone_BRD = take(x_BLD, self.gone_BR)
        sums_BKD = product("BKR,BRD->BKD", self.into_BKR.astype(x_BLD.dtype), gone_BRD)
        return sums_BKD + take(x_BLD, self.keep_BK).astype(jnp.float32)

    def owners(self, owners_BT: jax.Array, positions_BL: jax.Array) -> jax.Array:
        """Of each token the position of the word-vector that it is part of now: int32 [B, T].

        Args:
          owners_BT: those before.
          positions_BL: of the word-vectors that entered.
        """
        positions_BK = take_positions(positions_BL, self.keep_BK)
        gone_BR = take_positions(positions_BL, self.gone_BR)
        into_BR = jnp.where(self.into_BKR, positions_BK[:, :, None], -1).max(axis=1)
        into_BR = jnp.where(into_BR < 0, gone_BR, into_BR)
        moved_BT1 = put_back(
            jnp.arange(owners_BT.shape[1], dtype=jnp.int32)[None, :, None]
            + jnp.zeros_like(owners_BT)[:, :, None],
            into_BR[:, :, None],
            gone_BR,
        )
        return jnp.take_along_axis(moved_BT1[:, :, 0], owners_BT, axis=1)


def group_removed(
    keys_BLE: jax.Array,
    keep_BK: jax.Array,
    valid_BL: jax.Array,
    protected_BL: jax.Array,
    sizes_BL: jax.Array,
    removed: int,
) -> Groups:
    """Each removed word-vector joins the kept one whose key is most like its own, by cosine.

    Protected ones stay as they are and receive nothing.

    Args:
      keys_BLE: the layer's keys, heads side by side; no gradient flows into the choice.
      keep_BK: int32, as `select` gives it.
      valid_BL, protected_BL: bool; protected word-vectors are valid.
      sizes_BL: float32, how many tokens each word-vector stands for.
      removed: R, at least what any example loses.

    Source: Bolya et al., arXiv 2210.09461 (ToMe), for the similarity and the sizes.
    """
    length = valid_BL.shape[1]
    slots_1L = jnp.arange(length, dtype=jnp.int32)[None, :]
    kept_BL = (keep_BK[:, :, None] == slots_1L[:, None, :]).any(axis=1)
    gone_BR = indices_where(valid_BL & ~kept_BL, removed)

    keys_BLE = jax.lax.stop_gradient(keys_BLE)
    receives_BK = (keep_BK < length) & ~take(protected_BL, keep_BK)
    unit_BKE = unit_vectors(take(keys_BLE, keep_BK))
    alike_BKR = product("BKE,BRE->BKR", unit_BKE, take(keys_BLE, gone_BR))
    alike_BKR = jnp.where(receives_BK[:, :, None], alike_BKR, -jnp.inf)
    slots_1K = jnp.arange(keep_BK.shape[1], dtype=jnp.int32)[None, :]
    chosen_BKR = jnp.argmax(alike_BKR, axis=1)[:, None, :] == slots_1K[:, :, None]
    into_BKR = chosen_BKR & receives_BK[:, :, None] & (gone_BR < length)[:, None, :]

    gained_BK = jnp.where(into_BKR, take(sizes_BL, gone_BR)[:, None, :], 0.0).sum(axis=2)
    sizes_BK = take(sizes_BL, keep_BK) + gained_BK
    return Groups(keep_BK, gone_BR, into_BKR, sizes_BL, sizes_BK)
