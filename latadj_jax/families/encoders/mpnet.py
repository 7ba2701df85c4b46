"""MPNet: BERT without token types, with a relative position bias beside its learned positions.

The bias is T5's, one for all layers, taken at the original positions of what remains. The table of
positions begins with those of the padding id, which is always 1.

Source: Song et al., arXiv 2004.09297.
"""

import dataclasses
import re
from typing import Any

from latadj_jax.errors import ConfigError
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertConfig, BertPooler
from latadj_jax.families.encoders.roberta import CLASSIFIER_NAMES, RobertaClassifier
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.hf_config import field
from latadj_jax.families.token_heads import span_head, token_head


def _buckets(value: Any, key: str) -> int:
    if value != 32:  # transformers reads the table so, whatever config.json says
        raise ConfigError(f"config.json: {key} {value!r} is not implemented; only 32 is.")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPNetConfig(BertConfig):
    """MPNet encoder, as Hugging Face's MPNetConfig."""

    type_vocab_size: int = 0
    num_buckets: int = field("relative_attention_num_buckets", _buckets, 32)

    model_type = "mpnet"
    first_position = 2
    max_distance = 128


_LAYER = "encoder.layer.{n}"

FAMILY = Family(
    config=MPNetConfig,
    module=Bert,
    heads={
        BASE: Head("MPNetModel", BertPooler),
        EMBEDDING: embedding_head("MPNetModel"),
        SEQUENCE: Head("MPNetForSequenceClassification", RobertaClassifier, CLASSIFIER_NAMES),
        TOKEN: token_head("MPNetForTokenClassification"),
        SPAN: span_head("MPNetForQuestionAnswering"),
    },
    names={
        **bert.FAMILY.names,
        "layer_{n}/query": f"{_LAYER}.attention.attn.q",
        "layer_{n}/key": f"{_LAYER}.attention.attn.k",
        "layer_{n}/value": f"{_LAYER}.attention.attn.v",
        "layer_{n}/attention_out": f"{_LAYER}.attention.attn.o",
        "layer_{n}/attention_norm": f"{_LAYER}.attention.LayerNorm",
        "relative_bias": "encoder.relative_attention_bias",
    },
    prefix="mpnet.",
    left_over=re.compile(r"(lm_head|classifier|qa_outputs|pooler)\."),
    buffers=re.compile(r"embeddings\.position_ids$"),
    may_be_new=bert.FAMILY.may_be_new,
    merges=True,
)
