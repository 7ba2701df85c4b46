"""Heads that answer for every token of the input, removed ones too: tags and answer spans.

A removed token is read as its plan says: as it was when it left, or as the word-vector that it was
merged into.
"""

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.plan import Plan
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
        out = base(inputs, plan, True, train)
        init = nn.initializers.normal(self.cfg.initializer_range)
        width, dropout = len(self.cfg.labels), Dropout(self.cfg.head_dropout)
        classifier = Dense(width, wide=True, dtype=self.dtype, kernel_init=init, name="classifier")
        return out.replace(logits=split_by_rows(classifier(dropout(out.hidden, train))))


class SpanHead(nn.Module):
    """Logits that an answer starts, and that it ends, at each token: float32 [B, T, 2]."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = base(inputs, plan, True, train)
        init = nn.initializers.normal(self.cfg.initializer_range)
        outputs = Dense(2, wide=True, dtype=self.dtype, kernel_init=init, name="qa_outputs")
        return out.replace(logits=split_by_rows(outputs(out.hidden)))


def token_head(architecture: str, **options) -> Head:
    """The head of that class, over a base model without its pooler."""
    names = {"classifier": "classifier"}
    return Head(architecture, TokenClassifier, names, unread=("pooler.",), **options)


def span_head(architecture: str, **options) -> Head:
    """The head of that class, over a base model without its pooler."""
    names = {"qa_outputs": "qa_outputs"}
    return Head(architecture, SpanHead, names, unread=("pooler.",), **options)
