"""DistilBERT: BERT without token types and without a pooler, as its config and its weights name it.

Source: Sanh et al., arXiv 1910.01108.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders.bert import Bert, BertConfig
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.heads import first_hidden
from latadj_jax.families.hf_config import activation_name, field, share, size
from latadj_jax.families.output import Output
from latadj_jax.families.token_heads import span_head, token_head
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilBertConfig(BertConfig):
    """DistilBERT encoder, as Hugging Face's DistilBertConfig."""

    hidden_size: int = field("dim", size)
    num_layers: int = field("n_layers", size)
    num_heads: int = field("n_heads", size)
    intermediate_size: int = field("hidden_dim", size)
    type_vocab_size: int = 0
    activation: str = field("activation", activation_name, "gelu")
    norm_eps: float = 1e-12
    hidden_dropout: float = field("dropout", share, 0.1)
    attention_dropout: float = field("attention_dropout", share, 0.1)
    head_dropout: float = field("seq_classif_dropout", share, 0.2)

    model_type = "distilbert"

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        return dict(hf)


class DistilBertClassifier(nn.Module):
    """Logits of a text: dense, ReLU, dropout, dense, from CLS."""

    cfg: DistilBertConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        cfg, init = self.cfg, nn.initializers.normal(self.cfg.initializer_range)
        out = base(inputs, plan, restore, train)
        pooler = Dense(cfg.hidden_size, dtype=self.dtype, kernel_init=init, name="pooler")
        classifier = Dense(
            len(cfg.labels), wide=True, dtype=self.dtype, kernel_init=init, name="classifier"
        )
        pooled_BD = Dropout(cfg.head_dropout)(nn.relu(pooler(first_hidden(out))), train)
        return out.replace(logits=classifier(pooled_BD))


FAMILY = Family(
    config=DistilBertConfig,
    module=Bert,
    heads={
        BASE: Head("DistilBertModel"),
        EMBEDDING: embedding_head("DistilBertModel"),
        SEQUENCE: Head(
            "DistilBertForSequenceClassification",
            DistilBertClassifier,
            {"pooler": "pre_classifier", "classifier": "classifier"},
        ),
        TOKEN: token_head("DistilBertForTokenClassification"),
        SPAN: span_head("DistilBertForQuestionAnswering"),
    },
    names={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "layer_{n}/query": "transformer.layer.{n}.attention.q_lin",
        "layer_{n}/key": "transformer.layer.{n}.attention.k_lin",
        "layer_{n}/value": "transformer.layer.{n}.attention.v_lin",
        "layer_{n}/attention_out": "transformer.layer.{n}.attention.out_lin",
        "layer_{n}/attention_norm": "transformer.layer.{n}.sa_layer_norm",
        "layer_{n}/ff_in": "transformer.layer.{n}.ffn.lin1",
        "layer_{n}/ff_out": "transformer.layer.{n}.ffn.lin2",
        "layer_{n}/ff_norm": "transformer.layer.{n}.output_layer_norm",
    },
    prefix="distilbert.",
    left_over=re.compile(
        r"(vocab_(transform|layer_norm|projector)|pre_classifier|classifier|qa_outputs)\."
    ),
    buffers=re.compile(r"embeddings\.position_ids$"),
    may_be_new=("pooler", "classifier", "qa_outputs"),
    merges=True,
)
