"""ELECTRA: BERT with embeddings of their own width, no pooler, and a classifier of two layers.

The discriminator, that is, which is what is fine-tuned.

Source: Clark et al., arXiv 2003.10555.
"""

import dataclasses
import re

from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertConfig
from latadj_jax.families.encoders.roberta import CLASSIFIER_NAMES, RobertaClassifier
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.hf_config import field, size
from latadj_jax.families.token_heads import span_head, token_head


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertConfig):
    """ELECTRA discriminator, as Hugging Face's ElectraConfig."""

    embedding_size: int = field("embedding_size", size, 128)

    model_type = "electra"

    @property
    def table_size(self) -> int:
        return self.embedding_size

    @property
    def projects(self) -> bool:
        return self.embedding_size != self.hidden_size


class ElectraClassifier(RobertaClassifier):
    activation = "gelu"


FAMILY = Family(
    config=ElectraConfig,
    module=Bert,
    heads={
        BASE: Head("ElectraModel"),
        EMBEDDING: embedding_head("ElectraModel"),
        SEQUENCE: Head("ElectraForSequenceClassification", ElectraClassifier, CLASSIFIER_NAMES),
        TOKEN: token_head("ElectraForTokenClassification"),
        SPAN: span_head("ElectraForQuestionAnswering"),
    },
    names={**bert.FAMILY.names, "embeddings/project": "embeddings_project"},
    prefix="electra.",
    left_over=re.compile(
        r"(discriminator_predictions|generator_predictions|generator_lm_head|classifier|qa_outputs"
        r"|sequence_summary)\."
    ),
    buffers=bert.FAMILY.buffers,
    may_be_new=("classifier", "qa_outputs"),
    merges=True,
)
