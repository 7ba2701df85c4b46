"""What heads read: the hidden state of the first token, or of the last."""

import jax
import jax.numpy as jnp

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.families.output import Output


def first_hidden(out: Output) -> jax.Array:
    """Final hidden state of each row's first token, CLS: [B, D]. It must be protected."""
    late_BL = jnp.where(out.positions < 0, jnp.iinfo(jnp.int32).max, out.positions)
    return _at(out, jnp.argmin(late_BL, axis=1))


def last_hidden(out: Output) -> jax.Array:
    """Final hidden state of each row's last token: [B, D]. It must be protected.

    Hugging Face's classifiers ignore the mask and read the last id that is not pad_token_id: the
    same token, unless a text itself ends with that id.
    """
    return _at(out, jnp.argmax(out.positions, axis=1))


def _at(out: Output, slot_B: jax.Array) -> jax.Array:
    return split_by_rows(jnp.take_along_axis(out.hidden, slot_B[:, None, None], axis=1)[:, 0])
