"""BERT: an encoder whose hidden states are normed after each block (post-norm).

CLS, the first token, is protected: heads read it.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.cut import Cut, Words, cut_words
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.score import score_vector
from latadj_jax.errors import ConfigError
from latadj_jax.families import encoder
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.heads import first_hidden
from latadj_jax.families.hf_config import HfConfig, activation_name, field, number, share, size
from latadj_jax.families.output import Output
from latadj_jax.families.token_heads import span_head, token_head
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import attend, attention_weights, split_heads
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm
from latadj_jax.layers.relative_bias import RelativeBias


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(HfConfig):
    """BERT encoder, as Hugging Face's BertConfig."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("hidden_size", size)
    num_layers: int = field("num_hidden_layers", size)
    num_heads: int = field("num_attention_heads", size)
    intermediate_size: int = field("intermediate_size", size)
    position_rows: int = field("max_position_embeddings", size)  # of the table
    type_vocab_size: int = field("type_vocab_size", size, 2)
    activation: str = field("hidden_act", activation_name, "gelu")
    norm_eps: float = field("layer_norm_eps", number, 1e-12)
    hidden_dropout: float = field("hidden_dropout_prob", share, 0.1)
    attention_dropout: float = field("attention_probs_dropout_prob", share, 0.1)
    head_dropout: float = field("classifier_dropout", share, 0.1)

    model_type = "bert"
    protects = "cls"
    dropouts = ("hidden_dropout", "attention_dropout", "head_dropout")
    first_position = 0  # the row of the table that the first token has
    shares_layers = False  # whether all layers have the same weights
    num_buckets = 0  # of distances, for a relative position bias; 0 is none
    projects = False  # whether embeddings are brought to hidden_size by a product

    @property
    def table_size(self) -> int:
        """Width of the embeddings."""
        return self.hidden_size

    @property
    def max_positions(self) -> int:
        """Tokens that it can read."""
        return self.position_rows - self.first_position

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("position_embedding_type") not in (None, "absolute"):
            raise ConfigError(
                f"position_embedding_type {hf['position_embedding_type']!r} is not implemented; "
                f"only 'absolute' is."
            )
        if hf.get("is_decoder"):
            raise ConfigError("is_decoder is set: a decoder of this family is not implemented.")
        if hf.get("classifier_dropout") is None:  # as the hidden states
            return {**hf, "classifier_dropout": hf.get("hidden_dropout_prob")}
        return dict(hf)


class BertEmbeddings(nn.Module):
    cfg: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, ids_BL, types_BL, positions_BL, train):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)

        def embed(num, name):
            return Embed(num, cfg.table_size, self.dtype, embedding_init=init, name=name)

        x_BLE = embed(cfg.vocab_size, "word")(ids_BL)
        if cfg.type_vocab_size:
            x_BLE += embed(cfg.type_vocab_size, "token_type")(types_BL)
        x_BLE += embed(cfg.position_rows, "position")(positions_BL)
        x_BLE = Dropout(cfg.hidden_dropout)(LayerNorm(cfg.norm_eps, name="norm")(x_BLE), train)
        if not cfg.projects:
            return x_BLE
        return Dense(cfg.hidden_size, dtype=self.dtype, kernel_init=init, name="project")(x_BLE)


class BertLayer(nn.Module):
    """Attention, cut, output projection, feed-forward.

    Takes N_{l-1} word-vectors and hands on N_l. Keys and values come from all that entered, so
    what is removed here has spoken once more; everything after the cut sees only the kept ones.
    Merged ones, which stand for several tokens, are attended to as so many.
    """

    cfg: BertConfig
    dtype: jnp.dtype

    # Attributes, so that the benchmarks can time the layer with others in their place.
    cut_words, dropout = staticmethod(cut_words), Dropout

    @nn.compact
    def __call__(self, words: Words, bias_BHLL, cut: Cut | None, train: bool):
        cfg, x_BLD, sizes_BL = self.cfg, words.x_BLD, words.sizes_BL
        init = nn.initializers.normal(cfg.initializer_range)

        def dense(width, name):
            return Dense(width, dtype=self.dtype, kernel_init=init, name=name)

        query, key, value = (dense(cfg.hidden_size, name) for name in ("query", "key", "value"))
        q_BLHC, k_BLHC, v_BLHC = (
            split_heads(projection(x_BLD), cfg.num_heads) for projection in (query, key, value)
        )
        bias_BHLL, scale = self.logits_of_positions(bias_BHLL, q_BLHC, k_BLHC, query, key, train)
        if sizes_BL is not None:
            log_sizes_B11L = jnp.log(sizes_BL)[:, None, None, :]
            bias_BHLL = log_sizes_B11L if bias_BHLL is None else bias_BHLL + log_sizes_B11L
        weights_BHLL, totals_BHL1 = attention_weights(
            q_BLHC, k_BLHC.swapaxes(1, 2), words.valid_BL[:, None, :], bias_BHLL, scale
        )
        scores_BL = score_vector(weights_BHLL, words.valid_BL, totals_BHL1)

        offered = {
            "scores_BL": scores_BL,
            "keys_BLE": k_BLHC.reshape(*k_BLHC.shape[:2], -1),
            "key": lambda: self.make_rng("eliminate"),
        }
        kept, words = self.cut_words(cut, words, offered)
        weights_BHKL = self.dropout(cfg.attention_dropout)(
            kept.queries(weights_BHLL, axis=2), train
        )
        totals_BHK1 = kept.queries(totals_BHL1, axis=2)
        heads_BKD = kept.attended(attend(weights_BHKL, totals_BHK1, v_BLHC.swapaxes(1, 2)))
        attended_BKD = dense(cfg.hidden_size, "attention_out")(heads_BKD)
        x_BKD = words.x_BLD + self.dropout(cfg.hidden_dropout)(attended_BKD, train)
        x_BKD = LayerNorm(cfg.norm_eps, name="attention_norm")(x_BKD)

        wide_BKF = ACTIVATIONS[cfg.activation](dense(cfg.intermediate_size, "ff_in")(x_BKD))
        narrow_BKD = dense(cfg.hidden_size, "ff_out")(wide_BKF)
        x_BKD = x_BKD + self.dropout(cfg.hidden_dropout)(narrow_BKD, train)
        x_BKD = LayerNorm(cfg.norm_eps, name="ff_norm")(x_BKD)
        return words.replace(x_BLD=x_BKD), scores_BL

    def logits_of_positions(self, bias_BHLL, q_BLHC, k_BLHC, query, key, train: bool):
        """What positions add to the attention logits, and the scale of the rest; None is BERT's.

        Args:
          bias_BHLL: what the base model gives its layers.
          query, key: the projections that made q and k.
        """
        return bias_BHLL, None


class Bert(nn.Module):
    """BERT without a head."""

    cfg: BertConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    layer = BertLayer

    def setup(self):
        cfg = self.cfg
        self.embeddings = BertEmbeddings(cfg, self.dtype)
        layer = layer_class(self.layer, self.remat, 4)
        if cfg.shares_layers:
            self.layers = [layer(cfg, self.dtype, name="layer")] * cfg.num_layers
        else:
            self.layers = [layer(cfg, self.dtype, name=f"layer_{n}") for n in range(cfg.num_layers)]
        if cfg.num_buckets:
            self.relative_bias = RelativeBias(
                cfg.num_buckets, cfg.max_distance, cfg.num_heads, both_ways=True,
                dtype=jnp.float32, std=cfg.initializer_range,
            )  # fmt: skip

    @staticmethod
    def input_ranges(cfg: BertConfig) -> dict[str, int]:
        """The inputs that it reads and how many values each can take.

        Where it has no token types it takes those of a BERT's tokenizer, which makes two, and
        ignores them.
        """
        types = {"token_type_ids": cfg.type_vocab_size or 2}
        return {"input_ids": cfg.vocab_size, **types, encoder.PROTECTED: 2}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        ids_BT = inputs["input_ids"]
        types_BT = inputs.get("token_type_ids", jnp.zeros_like(ids_BT))
        start_B1 = encoder.first_token(inputs["attention_mask"])
        rows_1T = jnp.arange(ids_BT.shape[1], dtype=jnp.int32)[None, :]
        # Counted from the first valid token, so that padding on the left changes nothing.
        places_BT = jnp.maximum(rows_1T - start_B1, 0) + self.cfg.first_position
        x_BTD = self.embeddings(ids_BT, types_BT, places_BT, train)
        words = encoder.words_of(x_BTD, inputs, plan, start_B1)
        bias = self.relative_bias if self.cfg.num_buckets else None
        remaining, restored = encoder.run(
            self.layers, words, plan, train, bias=bias, reading=inputs.get(encoder.READING)
        )
        return restored() if restore else remaining


class BertPooler(nn.Module):
    """The pooler of the base model: CLS through a layer of its own."""

    cfg: BertConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = base(inputs, plan, restore, train)
        init = nn.initializers.normal(self.cfg.initializer_range)
        pooler = Dense(self.cfg.hidden_size, dtype=self.dtype, kernel_init=init, name="pooler")
        return out.replace(pooled=split_by_rows(jnp.tanh(pooler(first_hidden(out)))))


class BertClassifier(nn.Module):
    """Logits of a text, from the pooler's output."""

    cfg: BertConfig
    dtype: jnp.dtype
    remat: bool = False

    def setup(self):
        init = nn.initializers.normal(self.cfg.initializer_range)
        self.base_with_pooler = BertPooler(self.cfg, self.dtype)
        nn.share_scope(self, self.base_with_pooler)
        self.head_dropout = Dropout(self.cfg.head_dropout)  # by its name, its random numbers
        self.classifier = Dense(len(self.cfg.labels), wide=True, dtype=self.dtype, kernel_init=init)

    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        out = self.base_with_pooler(base, inputs, plan, restore, train)
        return out.replace(logits=self.classifier(self.head_dropout(out.pooled, train)))


FAMILY = Family(
    config=BertConfig,
    module=Bert,
    heads={
        BASE: Head("BertModel", BertPooler),
        EMBEDDING: embedding_head("BertModel"),
        SEQUENCE: Head(
            "BertForSequenceClassification", BertClassifier, {"classifier": "classifier"}
        ),
        TOKEN: token_head("BertForTokenClassification"),
        SPAN: span_head("BertForQuestionAnswering"),
    },
    names={
        "embeddings/word": "embeddings.word_embeddings",
        "embeddings/position": "embeddings.position_embeddings",
        "embeddings/token_type": "embeddings.token_type_embeddings",
        "embeddings/norm": "embeddings.LayerNorm",
        "layer_{n}/query": "encoder.layer.{n}.attention.self.query",
        "layer_{n}/key": "encoder.layer.{n}.attention.self.key",
        "layer_{n}/value": "encoder.layer.{n}.attention.self.value",
        "layer_{n}/attention_out": "encoder.layer.{n}.attention.output.dense",
        "layer_{n}/attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
        "layer_{n}/ff_in": "encoder.layer.{n}.intermediate.dense",
        "layer_{n}/ff_out": "encoder.layer.{n}.output.dense",
        "layer_{n}/ff_norm": "encoder.layer.{n}.output.LayerNorm",
        "pooler": "pooler.dense",
    },
    prefix="bert.",
    left_over=re.compile(r"(cls|classifier|qa_outputs)\."),
    buffers=re.compile(r"embeddings\.(position|token_type)_ids$"),
    may_be_new=("pooler", "classifier", "qa_outputs"),
    merges=True,
)
