"""What a model returns."""

import jax
from flax import struct


@struct.dataclass
class Output:
    """One forward pass.

    Attributes:
      logits: float32 [B, num_labels], or [B, N_L, vocab_size] of a language model; None without a
        head.
      hidden: [B, N_L, D] (N_L is T when dense or restored), after the final norm.
      pooled: [B, D], or None where the family has no pooler.
      embedding: float32 [B, D], one vector for each text; None without the head for it.
      positions: int32 [B, N_L], index into the row of `input_ids` of each kept word-vector;
        -1 where the buffer holds nothing (its hidden state is 0 once anything was removed).
      sizes: float32 [B, N_L], how many tokens each word-vector stands for: 1, or more once others
        were merged into it (restored ones stand for one each); 0 where the buffer holds nothing.
      scores: per layer the float32 Score Vector [B, N_{l-1}] of what entered it, slot by slot;
        None of a layer that is skipped, or of all.
      entered: per layer the positions int32 [B, N_{l-1}] of what entered it, or None; `scores` are
        theirs.
      left: int32 [B, N_L], the positions of what the last layer left, whether or not the others
        were restored after it; None where `entered` is.
      masses: float32 [B, N_L, M], what an embedding's pooling weighs merged word-vectors by, or
        None.
    """

    logits: jax.Array | None
    hidden: jax.Array
    pooled: jax.Array | None
    positions: jax.Array
    sizes: jax.Array
    scores: tuple[jax.Array | None, ...] | None
    entered: tuple[jax.Array, ...] | None
    left: jax.Array | None = None
    embedding: jax.Array | None = None
    masses: jax.Array | None = None
