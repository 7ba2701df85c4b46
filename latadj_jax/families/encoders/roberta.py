"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT whose positions begin after the padding id's.

So a table of 514 rows reads 512 tokens. Their classifier has two layers and no pooler.

Source: Liu et al., arXiv 1907.11692; Conneau et al., arXiv 1911.02116; Martin et al., 1911.03894.
"""

import dataclasses
import re

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.checks import is_integer
from latadj_jax.elimination.plan import Plan
from latadj_jax.errors import ConfigError
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertConfig, BertPooler
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.heads import first_hidden
from latadj_jax.families.hf_config import field
from latadj_jax.families.output import Output
from latadj_jax.families.token_heads import span_head, token_head
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense


def _padding_id(value, key: str) -> int:
    if not is_integer(value) or value < 0:
        raise ConfigError(f"config.json: {key} must be an integer of at least 0; it is {value!r}.")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(BertConfig):
    """RoBERTa encoder, as Hugging Face's RobertaConfig."""

    padding_id: int = field("pad_token_id", _padding_id, 1)

    model_type = "roberta"

    @property
    def first_position(self) -> int:
        return self.padding_id + 1

    def __post_init__(self):
        super().__post_init__()
        if self.max_positions < 1:
            raise ConfigError(
                f"max_position_embeddings {self.position_rows} leaves no position after that of "
                f"pad_token_id {self.padding_id}."
            )


class XLMRobertaConfig(RobertaConfig):
    model_type = "xlm-roberta"


class CamembertConfig(RobertaConfig):
    model_type = "camembert"


class _TwoLayers(nn.Module):
    """Dropout, dense, activation, dropout, dense."""

    cfg: BertConfig
    dtype: jnp.dtype
    activation: str

    @nn.compact
    def __call__(self, x_BD, train: bool):
        cfg, init = self.cfg, nn.initializers.normal(self.cfg.initializer_range)
        dropout = Dropout(cfg.head_dropout)
        wide = Dense(cfg.hidden_size, dtype=self.dtype, kernel_init=init, name="dense")
        out = Dense(len(cfg.labels), wide=True, dtype=self.dtype, kernel_init=init, name="out")
        return out(dropout(ACTIVATIONS[self.activation](wide(dropout(x_BD, train))), train))


class RobertaClassifier(nn.Module):
    """Logits of a text, from its first token alone: there is no pooler."""

    cfg: BertConfig
    dtype: jnp.dtype
    remat: bool = False

    activation = "tanh"

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = base(inputs, plan, restore, train)
        classifier = _TwoLayers(self.cfg, self.dtype, self.activation, name="classifier")
        return out.replace(logits=classifier(first_hidden(out), train))


CLASSIFIER_NAMES = {
    "classifier/dense": "classifier.dense",
    "classifier/out": "classifier.out_proj",
}


def _family(config: type[RobertaConfig], name: str) -> Family:
    return Family(
        config=config,
        module=Bert,
        heads={
            BASE: Head(f"{name}Model", BertPooler, aliases=("RobertaModel",)),
            EMBEDDING: embedding_head(f"{name}Model"),
            SEQUENCE: Head(
                f"{name}ForSequenceClassification",
                RobertaClassifier,
                CLASSIFIER_NAMES,
                aliases=("RobertaForSequenceClassification",),
            ),
            TOKEN: token_head(
                f"{name}ForTokenClassification", aliases=("RobertaForTokenClassification",)
            ),
            SPAN: span_head(
                f"{name}ForQuestionAnswering", aliases=("RobertaForQuestionAnswering",)
            ),
        },
        names=bert.FAMILY.names,
        prefix="roberta.",
        left_over=re.compile(r"(lm_head|classifier|qa_outputs|pooler)\."),
        buffers=bert.FAMILY.buffers,
        may_be_new=bert.FAMILY.may_be_new,
        merges=True,
    )


FAMILIES = (
    _family(RobertaConfig, "Roberta"),
    _family(XLMRobertaConfig, "XLMRoberta"),
    _family(CamembertConfig, "Camembert"),
)
