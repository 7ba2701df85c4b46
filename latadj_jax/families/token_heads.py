"""Heads that answer for every token of the input, removed ones too: tags and answer spans.

A removed token is read as its plan says: as it was when it left, or as the word-vector that it was
merged into. A strategy may ask the head beforehand how open its answer for a token still is.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.plan import Plan
from latadj_jax.families.encoder import READING
from latadj_jax.families.family import Head
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.output import Output
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense


class TokenClassifier(nn.Module):
    """Logits of each token, float32 [B, T, number of labels]."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        init = nn.initializers.normal(self.cfg.initializer_range)
        width, dropout = len(self.cfg.labels), Dropout(self.cfg.head_dropout)
        classifier = Dense(width, wide=True, dtype=self.dtype, kernel_init=init, name="classifier")
        out = base(with_reading(inputs, plan, classifier, other_tag), plan, True, train)
        return out.replace(logits=split_by_rows(classifier(dropout(out.hidden, train))))


class SpanHead(nn.Module):
    """Logits that an answer starts, and that it ends, at each token: float32 [B, T, 2]."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        init = nn.initializers.normal(self.cfg.initializer_range)
        outputs = Dense(2, wide=True, dtype=self.dtype, kernel_init=init, name="qa_outputs")
        out = base(with_reading(inputs, plan, outputs, end_of_answer), plan, True, train)
        return out.replace(logits=split_by_rows(outputs(out.hidden)))


def other_tag(logits_BLC: jax.Array, valid_BL: jax.Array) -> jax.Array:
    """Logarithm of the probability that a token's tag is not the likeliest one: float32 [B, L]."""
    probs_BLC = jax.nn.softmax(logits_BLC.astype(jnp.float32))
    likeliest_BLC = jax.nn.one_hot(probs_BLC.argmax(axis=-1), probs_BLC.shape[-1])
    # The sum of the others, and not 1 less the largest, which float32 rounds to 0.
    others_BL = (probs_BLC * (1 - likeliest_BLC)).sum(axis=-1)
    return jnp.log(jnp.maximum(others_BL, jnp.finfo(jnp.float32).tiny))


def end_of_answer(logits_BL2: jax.Array, valid_BL: jax.Array) -> jax.Array:
    """Logarithm of the larger of two probabilities, that the answer begins with a token and that it
    ends with it: float32 [B, L]."""
    lowest = jnp.finfo(jnp.float32).min
    logits_BL2 = jnp.where(valid_BL[:, :, None], logits_BL2.astype(jnp.float32), lowest)
    return jax.nn.log_softmax(logits_BL2, axis=1).max(axis=-1)


def with_reading(
    inputs, plan: Plan, head: Callable, openness: Callable[[jax.Array, jax.Array], jax.Array]
):
    """The inputs, and what the base model asks for the strategies that ask the head."""
    if not plan.reads_head:
        return inputs
    return {**inputs, READING: lambda hidden_BLD, valid_BL: openness(head(hidden_BLD), valid_BL)}


def token_head(architecture: str, **options) -> Head:
    """The head of that class, over a base model without its pooler."""
    names = {"classifier": "classifier"}
    return Head(architecture, TokenClassifier, names, unread=("pooler.",), **options)


def span_head(architecture: str, **options) -> Head:
    """The head of that class, over a base model without its pooler."""
    names = {"qa_outputs": "qa_outputs"}
    return Head(architecture, SpanHead, names, unread=("pooler.",), **options)
