"""ModernBERT: an encoder with norms before each block, rotary positions and a gated feed-forward.

Every third layer is global; in the others a query sees keys at most `local_attention` / 2 positions
away. Positions are those of the text whatever was removed between, and a local layer's scores are
divided by how many see a word-vector. CLS is protected; a classifier reads it, or the mean of what
remains, in which a merged word-vector counts as often as it stands for tokens.

Source: Warner et al., arXiv 2412.13663.
"""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.cut import Cut, Words, cut_words
from latadj_jax.elimination.plan import Plan
from latadj_jax.families import encoder
from latadj_jax.families.embedding import embedding_head
from latadj_jax.families.encoder_attention import attend_near
from latadj_jax.families.encoders.modernbert_config import ModernBertConfig
from latadj_jax.families.family import BASE, EMBEDDING, SEQUENCE, SPAN, TOKEN, Family, Head
from latadj_jax.families.heads import first_hidden
from latadj_jax.families.output import Output
from latadj_jax.families.pooling import mean
from latadj_jax.families.rotary import attention_factor, inverse_frequencies, rotate
from latadj_jax.families.token_heads import end_of_answer, other_tag, with_reading
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import split_heads
from latadj_jax.layers.dropout import Dropout, drop
from latadj_jax.layers.modules import Dense, Embed, layer_class
from latadj_jax.layers.norms import LayerNorm


def _init(cfg: ModernBertConfig, std: float | None = None):
    """A normal distribution without its tails."""
    std = cfg.initializer_range if std is None else std
    cutoff = cfg.initializer_cutoff
    return nn.initializers.truncated_normal(std, lower=-cutoff, upper=cutoff)


def _init_added(cfg: ModernBertConfig):
    """Smaller: of what is added to the residual stream, twice in every layer."""
    return _init(cfg, cfg.initializer_range / (2 * cfg.num_layers) ** 0.5)


class ModernBertLayer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered.

    What is cut is the attention output: next to the rest of a layer it is cheap to make for what
    goes, too, and takes less to cut than attention weights.
    """

    cfg: ModernBertConfig
    dtype: jnp.dtype
    number: int  # of the layer, from 0

    @nn.compact
    def __call__(self, words: Words, bias_BHLL, cut: Cut | None, train: bool):
        cfg, positions_BL = self.cfg, words.positions_BL

        def dense(width, name, bias, init=None):
            return Dense(width, bias, dtype=self.dtype, kernel_init=init or _init(cfg), name=name)

        normed_BLD = words.x_BLD
        if self.number > 0:  # the embeddings are normed already
            normed_BLD = LayerNorm(cfg.norm_eps, cfg.norm_bias, name="attention_norm")(normed_BLD)
        q_BLHC, k_BLHC, v_BLHC = (
            split_heads(dense(cfg.hidden_size, name, cfg.attention_bias)(normed_BLD), cfg.num_heads)
            for name in ("query", "key", "value")
        )
        rope = cfg.rope(self.number)
        frequencies = inverse_frequencies(rope, q_BLHC.shape[-1])
        # Counted from CLS, which is always there, so that padding on the left changes nothing.
        start_B1 = jnp.where(words.valid_BL, positions_BL, cfg.max_positions).min(1, keepdims=True)
        q_BLHC, k_BLHC = (
            rotate(x_BLHC, positions_BL - start_B1, frequencies, attention_factor(rope))
            for x_BLHC in (q_BLHC, k_BLHC)
        )
        drops = train and cfg.attention_dropout > 0
        key = self.make_rng("dropout") if drops else None

        def dropout(block, weights):
            if not drops:
                return weights
            return drop(weights, cfg.attention_dropout, jax.random.fold_in(key, block))

        heads_BLE, scores_BL = attend_near(
            q_BLHC, k_BLHC, v_BLHC, words, cfg.window(self.number), dropout
        )

        offered = {
            "scores_BL": scores_BL,
            "keys_BLE": k_BLHC.reshape(*k_BLHC.shape[:2], -1),
            "key": lambda: self.make_rng("eliminate"),
        }
        kept, words = cut_words(cut, words, offered)
        out = dense(cfg.hidden_size, "attention_out", cfg.attention_bias, _init_added(cfg))
        attended_BKD = Dropout(cfg.attention_dropout)(out(kept.rows(heads_BLE)), train)
        x_BKD = words.x_BLD + attended_BKD

        normed_BKD = LayerNorm(cfg.norm_eps, cfg.norm_bias, name="ff_norm")(x_BKD)
        gate_BKF = dense(cfg.intermediate_size, "gate", cfg.mlp_bias)(normed_BKD)
        up_BKF = dense(cfg.intermediate_size, "up", cfg.mlp_bias)(normed_BKD)
        gated_BKF = ACTIVATIONS[cfg.activation](gate_BKF) * up_BKF
        down = dense(cfg.hidden_size, "down", cfg.mlp_bias, _init_added(cfg))
        x_BKD = x_BKD + down(Dropout(cfg.mlp_dropout)(gated_BKF, train))
        return words.replace(x_BLD=x_BKD), scores_BL


class ModernBert(nn.Module):
    """ModernBERT without a head."""

    cfg: ModernBertConfig
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        self.word = Embed(cfg.vocab_size, cfg.hidden_size, self.dtype, embedding_init=_init(cfg))
        self.embedding_norm = LayerNorm(cfg.norm_eps, cfg.norm_bias)
        self.embedding_dropout = Dropout(cfg.embedding_dropout)
        layer = layer_class(ModernBertLayer, self.remat, 4)
        every = range(cfg.num_layers)
        self.layers = [layer(cfg, self.dtype, n, name=f"layer_{n}") for n in every]
        self.final_norm = LayerNorm(cfg.norm_eps, cfg.norm_bias)

    @staticmethod
    def input_ranges(cfg: ModernBertConfig) -> dict[str, int]:
        """The inputs that it reads and how many values each can take."""
        return {"input_ids": cfg.vocab_size, encoder.PROTECTED: 2}

    def __call__(self, inputs, plan: Plan, restore: bool = False, train: bool = False) -> Output:
        remaining, restored = self.encode(inputs, plan, train)
        return restored() if restore else remaining

    def encode(self, inputs, plan: Plan, train: bool) -> tuple[Output, Callable[[], Output]]:
        """What remains, and a function that restores the rest."""
        x_BTD = self.embedding_dropout(self.embedding_norm(self.word(inputs["input_ids"])), train)
        start_B1 = encoder.first_token(inputs["attention_mask"])
        words = encoder.words_of(x_BTD, inputs, plan, start_B1)
        return encoder.run(
            self.layers, words, plan, train, self.final_norm, reading=inputs.get(encoder.READING)
        )


class PredictionHead(nn.Module):
    """Dense layer, activation, norm, dropout; and logits."""

    cfg: ModernBertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        cfg = self.cfg
        dense = Dense(
            cfg.hidden_size, cfg.head_bias, dtype=self.dtype, kernel_init=_init_added(cfg),
            name="dense",
        )  # fmt: skip
        active_BLD = ACTIVATIONS[cfg.head_activation](dense(x_BLD))
        return LayerNorm(cfg.norm_eps, cfg.norm_bias, name="norm")(active_BLD)


class _Head(nn.Module):
    """What stands on top of ModernBERT for each hidden state that a task reads."""

    cfg: ModernBertConfig
    dtype: jnp.dtype
    remat: bool = False

    def setup(self):
        cfg = self.cfg
        self.head, self.head_dropout = PredictionHead(cfg, self.dtype), Dropout(cfg.head_dropout)
        self.classifier = Dense(
            self.num_logits(), wide=True, dtype=self.dtype,
            kernel_init=_init(cfg, cfg.hidden_size**-0.5),
        )  # fmt: skip

    def num_logits(self) -> int:
        return len(self.cfg.labels)

    def logits(self, x: jax.Array, train: bool) -> jax.Array:
        return split_by_rows(self.classifier(self.head_dropout(self.head(x), train)))


class ModernBertClassifier(_Head):
    """Logits of a text, from CLS or from the mean of what remains."""

    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        remaining, restored = base.encode(inputs, plan, train)
        if self.cfg.pooling == "cls":
            x_BD = first_hidden(remaining)
        else:
            x_BD = mean(remaining.hidden.astype(jnp.float32), remaining.sizes).astype(self.dtype)
        out = restored() if restore else remaining
        return out.replace(logits=self.logits(x_BD, train))


class ModernBertTagger(_Head):
    """Logits of each token, removed ones too."""

    openness = staticmethod(other_tag)

    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        read = functools.partial(self.logits, train=False)
        out = base(with_reading(inputs, plan, read, self.openness), plan, True, train)
        return out.replace(logits=self.logits(out.hidden, train))


class ModernBertSpans(ModernBertTagger):
    """Logits that an answer starts, and that it ends, at each token."""

    openness = staticmethod(end_of_answer)

    def num_logits(self) -> int:
        return 2


HEAD = {"head/dense": "head.dense", "head/norm": "head.norm", "classifier": "classifier"}
FAMILY = Family(
    config=ModernBertConfig,
    module=ModernBert,
    heads={
        BASE: Head("ModernBertModel"),
        EMBEDDING: embedding_head("ModernBertModel"),
        SEQUENCE: Head("ModernBertForSequenceClassification", ModernBertClassifier, HEAD),
        TOKEN: Head("ModernBertForTokenClassification", ModernBertTagger, HEAD),
        SPAN: Head("ModernBertForQuestionAnswering", ModernBertSpans, HEAD),
    },
    names={
        "word": "embeddings.tok_embeddings",
        "embedding_norm": "embeddings.norm",
        "layer_{n}/attention_norm": "layers.{n}.attn_norm",
        "layer_{n}/query": "layers.{n}.attn.Wqkv.query",
        "layer_{n}/key": "layers.{n}.attn.Wqkv.key",
        "layer_{n}/value": "layers.{n}.attn.Wqkv.value",
        "layer_{n}/attention_out": "layers.{n}.attn.Wo",
        "layer_{n}/ff_norm": "layers.{n}.mlp_norm",
        "layer_{n}/gate": "layers.{n}.mlp.Wi.gate",
        "layer_{n}/up": "layers.{n}.mlp.Wi.up",
        "layer_{n}/down": "layers.{n}.mlp.Wo",
        "final_norm": "final_norm",
    },
    prefix="model.",
    left_over=re.compile(r"(head|decoder|classifier)\."),
    buffers=re.compile(r".*rotary_emb\.(\w+_)?inv_freq$"),
    may_be_new=("head", "classifier"),
    fused={"attn.Wqkv": ("query", "key", "value"), "mlp.Wi": ("gate", "up")},
    merges=True,
)
