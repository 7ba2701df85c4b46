"""BERT encoder with elimination of word-vectors, and its heads.

Hidden states are normed after each block (post-norm). CLS, the first valid token, is protected.
"""

import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.eliminate import Cut, put_back, select, take, take_positions
from latadj_jax.elimination.merging import group_removed
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.score import score_vector
from latadj_jax.elimination.strategies import ENCODER_STRATEGIES, ranking
from latadj_jax.families.config import BertConfig
from latadj_jax.families.output import Output
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import attend, attention_weights, split_heads
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm


class BertEmbeddings(nn.Module):
    cfg: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, ids_BL, types_BL, positions_BL, train):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)

        def embed(num, name):
            return Embed(num, cfg.hidden_size, self.dtype, embedding_init=init, name=name)

        x_BLD = embed(cfg.vocab_size, "word")(ids_BL)
        x_BLD += embed(cfg.type_vocab_size, "token_type")(types_BL)
        x_BLD += embed(cfg.max_positions, "position")(positions_BL)
        return Dropout(cfg.hidden_dropout)(LayerNorm(cfg.norm_eps, name="norm")(x_BLD), train)


class BertLayer(nn.Module):
    """Attention, cut, output projection, feed-forward.

    Takes N_{l-1} word-vectors and hands on N_l. Keys and values come from all that entered, so
    what is removed here has spoken once more; everything after the cut sees only the kept ones.
    Merged ones, which stand for several tokens, are attended to as so many.
    """

    cfg: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD, positions_BL, sizes_BL, protected_BL, cut: Cut | None, train: bool):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)

        def dense(width, name):
            return Dense(width, dtype=self.dtype, kernel_init=init, name=name)

        q_BLHC, k_BLHC, v_BLHC = (
            split_heads(dense(cfg.hidden_size, name)(x_BLD), cfg.num_heads)
            for name in ("query", "key", "value")
        )
        valid_BL = positions_BL >= 0
        weights_BHLL, totals_BHL1 = attention_weights(
            q_BLHC,
            k_BLHC.swapaxes(1, 2),
            valid_BL[:, None, :],
            None if sizes_BL is None else jnp.log(sizes_BL)[:, None, None, :],
        )
        scores_BL = score_vector(weights_BHLL, valid_BL, totals_BHL1)

        merge = cut is not None and cut.strategy == "merge" and cut.size > 1  # CLS receives nothing
        if cut is not None:
            key = self.make_rng("eliminate") if cut.strategy == "random" else None
            ranking_BL = ranking(cut.strategy, scores_BL, positions_BL, key)
            keep_BK = select(ranking_BL, valid_BL, protected_BL, cut.count_B, cut.size)
            positions_BL = take_positions(positions_BL, keep_BK)
            if not merge:
                weights_BHLL = take(weights_BHLL, keep_BK, axis=2)
                totals_BHL1 = take(totals_BHL1, keep_BK, axis=2)
                x_BLD = take(x_BLD, keep_BK)
                sizes_BL = None if sizes_BL is None else take(sizes_BL, keep_BK)

        weights_BHLL = Dropout(cfg.attention_dropout)(weights_BHLL, train)
        heads_BKD = attend(weights_BHLL, totals_BHL1, v_BLHC.swapaxes(1, 2))
        if merge:
            keys_BLE = k_BLHC.reshape(*k_BLHC.shape[:2], -1)
            groups = group_removed(keys_BLE, keep_BK, valid_BL, protected_BL, sizes_BL, cut.removed)
            heads_BKD, x_BLD, sizes_BL = groups.mean(heads_BKD), groups.mean(x_BLD), groups.sizes_BK
        attended_BKD = dense(cfg.hidden_size, "attention_out")(heads_BKD)
        x_BKD = x_BLD + Dropout(cfg.hidden_dropout)(attended_BKD, train)
        x_BKD = LayerNorm(cfg.norm_eps, name="attention_norm")(x_BKD)

        wide_BKF = ACTIVATIONS[cfg.activation](dense(cfg.intermediate_size, "ff_in")(x_BKD))
        narrow_BKD = dense(cfg.hidden_size, "ff_out")(wide_BKF)
        x_BKD = x_BKD + Dropout(cfg.hidden_dropout)(narrow_BKD, train)
        x_BKD = LayerNorm(cfg.norm_eps, name="ff_norm")(x_BKD)
        return x_BKD, positions_BL, sizes_BL, scores_BL


class Bert(nn.Module):
    """BERT for one task: "features", "classification" or "regression"."""

    cfg: BertConfig
    task: str
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    protected = 1  # CLS
    strategies = (*ENCODER_STRATEGIES, "merge")

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.initializer_range)
        self.embeddings = BertEmbeddings(cfg, self.dtype)
        layer = layer_class(BertLayer, self.remat, 6)
        self.layers = [layer(cfg, self.dtype, name=f"layer_{n}") for n in range(cfg.num_layers)]
        self.pooler = Dense(cfg.hidden_size, dtype=self.dtype, kernel_init=init)
        if self.task != "features":
            self.head_dropout = Dropout(cfg.head_dropout)
            self.classifier = Dense(len(cfg.labels), wide=True, dtype=self.dtype, kernel_init=init)

    @staticmethod
    def input_ranges(cfg: BertConfig) -> dict[str, int]:
        """The inputs that BERT reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size, "token_type_ids": cfg.type_vocab_size}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        """Runs the encoder and the head of the task.

        Args:
          inputs: `input_ids` [B, T], `attention_mask` bool [B, T], `token_type_ids` [B, T] or not.
          plan: counts after each layer, for the padded length T.
          restore: hidden states of all T positions, removed ones as they were when removed.
          train: dropout, from the rng stream "dropout".
        """
        ids_BL, valid_BL = inputs["input_ids"], inputs["attention_mask"]
        types_BL = inputs.get("token_type_ids", jnp.zeros_like(ids_BL))
        start_B1 = jnp.argmax(valid_BL, axis=1, keepdims=True).astype(jnp.int32)  # CLS
        rows_L = jnp.arange(ids_BL.shape[1], dtype=jnp.int32)[None, :]
        positions_BL = jnp.where(valid_BL, rows_L, -1)
        # Counted from the first valid token, so that padding on the left changes nothing.
        places_BL = jnp.maximum(rows_L - start_B1, 0)
        x_BLD = split_by_rows(self.embeddings(ids_BL, types_BL, places_BL, train))

        counts_by_layer = plan.example_counts(valid_BL.sum(axis=1, dtype=jnp.int32))
        restored_BTD, all_positions_BT = jnp.zeros_like(x_BLD), positions_BL
        merges = plan.strategy == "merge" and not plan.is_dense
        sizes_BL = jnp.ones(ids_BL.shape, jnp.float32) if merges else None  # tokens stood for
        scores, entered = [], []
        for n, layer in enumerate(self.layers):
            cut = None
            if plan.rates[n] < 1:
                cut = Cut(counts_by_layer[:, n], plan.sizes[n], plan.strategy, plan.removed[n])
                restored_BTD = put_back(restored_BTD, x_BLD, positions_BL)
            entered.append(positions_BL)
            protected_BL = positions_BL == start_B1
            x_BLD, positions_BL, sizes_BL, scores_BL = layer(
                x_BLD, positions_BL, sizes_BL, protected_BL, cut, train
            )
            x_BLD = split_by_rows(x_BLD)
            scores.append(scores_BL)

        cls_B11 = jnp.argmax(positions_BL == start_B1, axis=1)[:, None, None]
        cls_BD = split_by_rows(jnp.take_along_axis(x_BLD, cls_B11, axis=1)[:, 0])
        pooled_BD = split_by_rows(jnp.tanh(self.pooler(cls_BD)))
        logits = None
        if self.task != "features":
            logits = self.classifier(self.head_dropout(pooled_BD, train))

        if not plan.is_dense:
            if restore:
                x_BLD = put_back(restored_BTD, x_BLD, positions_BL)
                positions_BL = all_positions_BT
            x_BLD = jnp.where(positions_BL[:, :, None] < 0, jnp.zeros_like(x_BLD), x_BLD)
        return Output(logits, x_BLD, pooled_BD, positions_BL, tuple(scores), tuple(entered))
