"""Choosing the next token from its logits."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latadj_jax.checks import is_number
from latadj_jax.model.model import check_key


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the most likely one.

    Attributes:
      temperature: logits are divided by it; higher is more varied.
      top_k: only the k most likely tokens may be drawn; 0 = all.
      top_p: only the most likely tokens that together reach this probability; 1 = all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        def need(ok, name, rule):
            value = getattr(self, name)
            if not is_number(value) or not ok(value):
                raise ValueError(f"{name} must be {rule}; it is {value!r}.")

        warm = "0 (greedy) or a finite number of at least 1e-6"
        need(lambda t: t == 0 or 1e-6 <= t < math.inf, "temperature", warm)
        whole = "an integer, 0 (all tokens) or greater"
        need(lambda k: 0 <= k < math.inf and k == int(k), "top_k", whole)
        need(lambda p: 0 < p <= 1, "top_p", "greater than 0 and at most 1")
        if self.kind == "greedy" and (self.top_k, self.top_p) != (0, 1):
            raise ValueError(
                "top_k and top_p change nothing at temperature 0, which takes the most likely "
                "token: pass temperature=1.0 to draw one."
            )

    @property
    def kind(self) -> str:
        """What is compiled: all other settings are arguments of the compiled program."""
        if self.temperature == 0:
            return "greedy"
        return "all" if self.top_k == 0 and self.top_p == 1 else "best"


@struct.dataclass
class Draw:
    """A Sampling whose numbers are arrays, so that others compile nothing."""

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    key: jax.Array
    kind: str = struct.field(pytree_node=False)

    @classmethod
    def of(cls, sampling: Sampling, key: jax.Array | None) -> "Draw":
        if key is None and sampling.kind != "greedy":
            raise ValueError("sampling needs a key: pass key=jax.random.key(0).")
        if key is not None:
            check_key("key", key)
        return cls(  # of NumPy: making them compiles nothing
            np.float32(sampling.temperature),
            np.int32(min(sampling.top_k, 2**31 - 1)),
            np.float32(sampling.top_p),
            None if sampling.kind == "greedy" else key,
            sampling.kind,
        )


def next_token(logits_BV: jax.Array, draw: Draw, step: jax.Array) -> jax.Array:
    """The next token of each row, int32 [B]; a row's draw does not depend on the other rows.

    Temperature first, then top_k, then top_p, as in Hugging Face's `generate`.
    """
    if draw.kind == "greedy":
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logits_BV = logits_BV / draw.temperature
    if draw.kind == "best":
        logits_BV = jnp.where(logits_BV >= _least(logits_BV, draw), logits_BV, -jnp.inf)
    key = jax.random.fold_in(draw.key, step)
    rows_B = jnp.arange(logits_BV.shape[0])
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, rows_B)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def _least(logits_BV: jax.Array, draw: Draw) -> jax.Array:
    """The lowest logit that may be drawn, [B, 1]."""
    sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
    ranks_1V = jnp.arange(sorted_BV.shape[-1])[None, :]
    within_k = (ranks_1V < draw.top_k) | (draw.top_k == 0)
    probs_BV = jax.nn.softmax(jnp.where(within_k, sorted_BV, -jnp.inf), axis=-1)
    before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
    allowed_BV = within_k & (before_BV < draw.top_p)
    return jnp.min(jnp.where(allowed_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
