"""How hidden states become one vector for a text: the records, and the kinds of pooling.

Source: the modules Pooling, Dense and Normalize of sentence-transformers 6.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class DenseStep:
    """x W + b and an activation, a name of STEP_ACTIVATIONS."""

    width_in: int
    width: int
    bias: bool = True
    activation: str = "Tanh"


@dataclasses.dataclass(frozen=True)
class NormalizeStep:
    """x / |x|."""


@dataclasses.dataclass(frozen=True)
class Embedding:
    """How a text becomes one vector, and how a text is read for it.

    Attributes:
      modes: names of POOLING, side by side in the embedding.
      include_prompt: whether the tokens of a prompt are pooled, too.
      steps: what follows the pooling.
      max_length: tokens that are read of a text, the rest is cut off; None: as the tokenizer says.
      lower_case: whether texts are read in lower case, whatever the tokenizer does.
      prompts: (name, text) of each, put before a text; `default_prompt` is the name of one, or "".
      similarity: of two embeddings: "cosine", "dot", "euclidean" or "manhattan".
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    steps: tuple[DenseStep | NormalizeStep, ...] = ()
    max_length: int | None = None
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str = ""
    similarity: str = "cosine"

    def prompt(self, name: str | None) -> str:
        """The text of a prompt; of the default one for None.

        Raises:
          ValueError: a name that it does not have, with those that it has.
        """
        prompts = dict(self.prompts)
        name = self.default_prompt if name is None else name
        if name and name not in prompts:
            known = ", ".join(prompts) or "none"
            raise ValueError(f"prompt {name!r} is not the model's; it has: {known}.")
        return prompts.get(name, "")

    def width(self, hidden_size: int) -> int:
        """D of the embedding.

        Raises:
          ValueError: a Dense step that is for another width than comes out of what is before it.
        """
        width = len(self.modes) * hidden_size
        for step in self.steps:
            if isinstance(step, DenseStep):
                if step.width_in != width:
                    raise ValueError(
                        f"a Dense step reads {step.width_in} numbers; {width} come from what is "
                        f"before it."
                    )
                width = step.width
        return width

    def reads(self, protects: str) -> str:
        """What it reads of a pruned pass: "protected" (its one position alone), "restored" (a
        position that may be removed, as it was when it went) or "remaining".

        Args:
          protects: which position a family never removes: "cls", "lasttoken" or "".
        """
        ends = {"cls", "lasttoken"} & {*self.modes}
        if ends - {protects} or (ends and not self.include_prompt):
            return "restored"
        return "protected" if ends == {*self.modes} else "remaining"


# Each of hidden states float32 [B, L, D] and masses [B, L], how many pooled tokens each stands for
# (of "weightedmean": the sum of their places, from 1); 0 for what is not there or not pooled.


def mean(hidden_BLD: jax.Array, mass_BL: jax.Array) -> jax.Array:
    """sum_l m_l x_l / sum_l m_l. A merged one is the mean of its tokens, and counts as they did."""
    return _sum(hidden_BLD, mass_BL) / _total(mass_BL)


def mean_sqrt(hidden_BLD: jax.Array, mass_BL: jax.Array) -> jax.Array:
    """sum_l m_l x_l / sqrt(sum_l m_l)."""
    return _sum(hidden_BLD, mass_BL) / jnp.sqrt(_total(mass_BL))


def maximum(hidden_BLD: jax.Array, mass_BL: jax.Array) -> jax.Array:
    """max_l x_l, of those with any mass."""
    return jnp.where(mass_BL[:, :, None] > 0, hidden_BLD, -jnp.inf).max(axis=1)


def _sum(hidden_BLD: jax.Array, mass_BL: jax.Array) -> jax.Array:
    return jnp.sum(hidden_BLD * mass_BL[:, :, None], axis=1)


def _total(mass_BL: jax.Array) -> jax.Array:
    return jnp.maximum(mass_BL.sum(axis=1, keepdims=True), 1e-9)


# What a mode makes of what remains; None where it is one hidden state, which heads.py finds. The
# order is that of the older keys of sentence-transformers, by which several stand side by side.
POOLING = {
    "cls": None,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt,
    "weightedmean": mean,
    "lasttoken": None,
}
