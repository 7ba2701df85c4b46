"""ALBERT: BERT with one layer's weights for all layers, and embeddings of their own width.

Source: Lan et al., arXiv 1909.11942.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from latadj_jax.errors import ConfigError
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertClassifier, BertConfig, BertPooler
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.hf_config import activation_name, field, share, size
from latadj_jax.families.token_heads import span_head, token_head


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlbertConfig(BertConfig):
    """ALBERT encoder, as Hugging Face's AlbertConfig."""

    embedding_size: int = field("embedding_size", size, 128)
    activation: str = field("hidden_act", activation_name, "gelu_new")
    hidden_dropout: float = field("hidden_dropout_prob", share, 0.0)
    attention_dropout: float = field("attention_probs_dropout_prob", share, 0.0)
    head_dropout: float = field("classifier_dropout_prob", share, 0.1)

    model_type = "albert"
    shares_layers = True
    projects = True

    @property
    def table_size(self) -> int:
        return self.embedding_size

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        for key in ("num_hidden_groups", "inner_group_num"):
            if hf.get(key) not in (None, 1):
                raise ConfigError(f"config.json: {key} {hf[key]!r} is not implemented; only 1 is.")
        return BertConfig.fill(hf)


_LAYER = "encoder.albert_layer_groups.0.albert_layers.0"

FAMILY = Family(
    config=AlbertConfig,
    module=Bert,
    heads={
        BASE: Head("AlbertModel", BertPooler),
        EMBEDDING: embedding_head("AlbertModel"),
        SEQUENCE: Head(
            "AlbertForSequenceClassification", BertClassifier, {"classifier": "classifier"}
        ),
        TOKEN: token_head("AlbertForTokenClassification"),
        SPAN: span_head("AlbertForQuestionAnswering"),
    },
    names={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/token_type": "embeddings.token_type_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "embeddings/project": "encoder.embedding_hidden_mapping_in",
        "layer/query": f"{_LAYER}.attention.query",
        "layer/key": f"{_LAYER}.attention.key",
        "layer/value": f"{_LAYER}.attention.value",
        "layer/attention_out": f"{_LAYER}.attention.dense",
        "layer/attention_norm": f"{_LAYER}.attention.LayerNorm",
        "layer/ff_in": f"{_LAYER}.ffn",
        "layer/ff_out": f"{_LAYER}.ffn_output",
        "layer/ff_norm": f"{_LAYER}.full_layer_layer_norm",
        "pooler": "pooler",
    },
    prefix="albert.",
    left_over=re.compile(r"(predictions|sop_classifier|classifier|qa_outputs)\."),
    buffers=bert.FAMILY.buffers,
    may_be_new=bert.FAMILY.may_be_new,
    merges=True,
)
