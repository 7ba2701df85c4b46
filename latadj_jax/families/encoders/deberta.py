"""DeBERTa v2 and v3: BERT whose attention reads contents and distances apart (disentangled).

    A[i, j] = q_i . k_j  +  q_i . K_r[i - j]  +  k_j . Q_r[i - j],    scaled by 1 / sqrt(3 C)

K_r and Q_r are keys and queries of the relative embeddings, one row for each bucket of distances.
Distances are those between the original positions of what remains. Most checkpoints have no other
positions, and no token types. CLS, the first token, is protected: heads read it.

Source: He et al., arXiv 2006.03654 and 2111.09543.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from latadj_jax.elimination.plan import Plan
from latadj_jax.families import encoder
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import BertLayer
from latadj_jax.families.encoders.deberta_config import DebertaConfig
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.heads import first_hidden
from latadj_jax.families.output import Output
from latadj_jax.families.token_heads import span_head, token_head
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm
from latadj_jax.layers.products import product


@struct.dataclass
class Distances:
    """What the layers know of how far word-vectors are apart.

    Attributes:
      rows_ND: relative embeddings, of the buckets that texts of this length can need.
      row_BLL: int32, which of them each query and key have; an axis B of size 1 is broadcast.
    """

    rows_ND: jax.Array
    row_BLL: jax.Array


class DebertaEmbeddings(nn.Module):
    cfg: DebertaConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, ids_BL, types_BL, positions_BL, train):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)

        def embed(num, name):
            return Embed(num, cfg.embedding_size, self.dtype, embedding_init=init, name=name)

        x_BLD = embed(cfg.vocab_size, "word")(ids_BL)
        if cfg.has_positions:
            x_BLD += embed(cfg.position_rows, "position")(positions_BL)
        if cfg.type_vocab_size:
            x_BLD += embed(cfg.type_vocab_size, "token_type")(types_BL)
        if cfg.embedding_size != cfg.hidden_size:
            x_BLD = Dense(
                cfg.hidden_size, use_bias=False, dtype=self.dtype, kernel_init=init, name="project"
            )(x_BLD)
        return Dropout(cfg.hidden_dropout)(LayerNorm(cfg.norm_eps, name="norm")(x_BLD), train)


class DebertaLayer(BertLayer):
    """BERT's, with the two terms of distances beside that of contents."""

    def logits_of_positions(self, distances: Distances | None, q_BLHC, k_BLHC, query, key, train):
        cfg, (heads, width) = self.cfg, q_BLHC.shape[2:]
        scale = (width * (1 + len(cfg.terms))) ** -0.5
        if distances is None:
            return None, scale
        rows_ND = self.dropout(cfg.hidden_dropout)(distances.rows_ND, train)
        row_B1LL = distances.row_BLL[:, None]

        def projected(content: Dense, name: str):
            """The rows by the projection of contents, or by one of their own: [N, H, C]."""
            own = Dense(
                cfg.hidden_size, dtype=self.dtype, name=name,
                kernel_init=nn.initializers.normal(cfg.initializer_range),
            )  # fmt: skip
            of_rows = content if cfg.shares_projections else own
            return (of_rows(rows_ND) * scale).reshape(-1, heads, width)

        def looked_up(x_BHLL, axis):
            return jnp.take_along_axis(x_BHLL, row_B1LL, axis, mode="promise_in_bounds")

        logits_BHLL = 0.0
        if "c2p" in cfg.terms:
            rows_NHC = projected(key, "position_key")
            logits_BHLL += looked_up(product("BIHC,NHC->BHIN", q_BLHC, rows_NHC), 3)
        if "p2c" in cfg.terms:
            rows_NHC = projected(query, "position_query")
            logits_BHLL += looked_up(product("BJHC,NHC->BHNJ", k_BLHC, rows_NHC), 2)
        return logits_BHLL, scale


class Deberta(nn.Module):
    """DeBERTa without a head."""

    cfg: DebertaConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        self.embeddings = DebertaEmbeddings(cfg, self.dtype)
        layer = layer_class(DebertaLayer, self.remat, 4)
        self.layers = [layer(cfg, self.dtype, name=f"layer_{n}") for n in range(cfg.num_layers)]
        if cfg.relative:
            init = nn.initializers.normal(cfg.initializer_range)
            self.relative = Embed(2 * cfg.span, cfg.hidden_size, self.dtype, embedding_init=init)
        if cfg.relative and cfg.relative_norm == "layer_norm":
            self.relative_norm = LayerNorm(cfg.norm_eps)

    @staticmethod
    def input_ranges(cfg: DebertaConfig) -> dict[str, int]:
        """The inputs that it reads and how many values each can take.

        Where it has no token types it takes those of its tokenizers, which make two, and ignores
        them.
        """
        types = {"token_type_ids": cfg.type_vocab_size or 2}
        return {"input_ids": cfg.vocab_size, **types, encoder.PROTECTED: 2}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        ids_BT = inputs["input_ids"]
        types_BT = inputs.get("token_type_ids", jnp.zeros_like(ids_BT))
        start_B1 = encoder.first_token(inputs["attention_mask"])
        rows_1T = jnp.arange(ids_BT.shape[1], dtype=jnp.int32)[None, :]
        # Counted from the first valid token, so that padding on the left changes nothing.
        places_BT = jnp.maximum(rows_1T - start_B1, 0)
        x_BTD = self.embeddings(ids_BT, types_BT, places_BT, train)
        words = encoder.words_of(x_BTD, inputs, plan, start_B1)
        between = self.distances(ids_BT.shape[1]) if self.cfg.relative else None
        remaining, restored = encoder.run(
            self.layers, words, plan, train, bias=between, reading=inputs.get(encoder.READING)
        )
        return restored() if restore else remaining

    def distances(self, length: int) -> Callable[[jax.Array, jax.Array], Distances]:
        """Function of positions, each under `length`, that gives how far they are apart."""
        row_N = self.cfg.rows_of_distances(length)
        first, last = int(row_N.min()), int(row_N.max())
        rows_ND = self.relative(jnp.arange(first, last + 1, dtype=jnp.int32))
        if self.cfg.relative_norm == "layer_norm":
            rows_ND = self.relative_norm(rows_ND)
        row_N = jnp.asarray(row_N - first, jnp.int32)

        def between(queries_BI: jax.Array, keys_BJ: jax.Array) -> Distances:
            # Empty slots get a row without meaning.
            at_BI, at_BJ = jnp.maximum(queries_BI, 0), jnp.maximum(keys_BJ, 0)
            return Distances(rows_ND, row_N[at_BI[:, :, None] - at_BJ[:, None, :] + length - 1])

        return between


class DebertaClassifier(nn.Module):
    """Logits of a text, from CLS through a layer of its own (ContextPooler)."""

    cfg: DebertaConfig
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
        x_BD = pooler(Dropout(cfg.pooler_dropout)(first_hidden(out), train))
        x_BD = ACTIVATIONS[cfg.pooler_activation](x_BD)
        return out.replace(logits=classifier(Dropout(cfg.classifier_dropout)(x_BD, train)))


FAMILY = Family(
    config=DebertaConfig,
    module=Deberta,
    heads={
        BASE: Head("DebertaV2Model"),
        EMBEDDING: embedding_head("DebertaV2Model"),
        SEQUENCE: Head(
            "DebertaV2ForSequenceClassification",
            DebertaClassifier,
            {"pooler": "pooler.dense", "classifier": "classifier"},
        ),
        TOKEN: token_head("DebertaV2ForTokenClassification"),
        SPAN: span_head("DebertaV2ForQuestionAnswering"),
    },
    names={
        **{ours: theirs for ours, theirs in bert.FAMILY.names.items() if ours != "pooler"},
        "embeddings/project": "embeddings.embed_proj",
        "layer_{n}/query": "encoder.layer.{n}.attention.self.query_proj",
        "layer_{n}/key": "encoder.layer.{n}.attention.self.key_proj",
        "layer_{n}/value": "encoder.layer.{n}.attention.self.value_proj",
        "layer_{n}/position_query": "encoder.layer.{n}.attention.self.pos_query_proj",
        "layer_{n}/position_key": "encoder.layer.{n}.attention.self.pos_key_proj",
        "relative": "encoder.rel_embeddings",
        "relative_norm": "encoder.LayerNorm",
    },
    prefix="deberta.",
    left_over=re.compile(r"(cls|lm_predictions|mask_predictions|pooler|classifier|qa_outputs)\."),
    # v3's discriminators hold the generator's positions, and some their words a second time.
    buffers=re.compile(r"embeddings\.(position_ids|(position|word)_embeddings\._?weight)$"),
    may_be_new=("pooler", "classifier", "qa_outputs"),
    merges=True,
)
