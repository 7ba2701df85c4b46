"""The layers of T5: an encoder's, which removes word-vectors, and a decoder's, which does not."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.elimination.cut import Cut, Words, cut_words
from latadj_jax.elimination.score import score_vector
from latadj_jax.families.encoders.t5_config import T5Config
from latadj_jax.layers.activations import ACTIVATIONS
from latadj_jax.layers.attention import attend, attention_weights, split_heads
from latadj_jax.layers.cached_attention import LayerCache, sees
from latadj_jax.layers.dropout import Dropout
from latadj_jax.layers.modules import Dense
from latadj_jax.layers.norms import RMSNorm
from latadj_jax.layers.relative_bias import RelativeBias


def _dense(cfg: T5Config, dtype, width: int, fan_in: int, name: str) -> Dense:
    """Without bias; random weights that keep the size of what comes in, as T5 draws them."""
    init = nn.initializers.normal(cfg.initializer_factor * fan_in**-0.5)
    return Dense(width, False, dtype=dtype, kernel_init=init, name=name)


def relative_bias(cfg: T5Config, both_ways: bool) -> RelativeBias:
    return RelativeBias(
        cfg.num_buckets, cfg.max_distance, cfg.num_heads, both_ways, dtype=jnp.float32
    )


class T5FeedForward(nn.Module):
    cfg: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD, train: bool):
        cfg = self.cfg
        dense = partial(_dense, cfg, self.dtype)
        dropout = partial(Dropout(cfg.dropout), train=train)
        normed_BLD = RMSNorm(cfg.norm_eps, name="norm")(x_BLD)
        activation = ACTIVATIONS[cfg.activation]
        if cfg.gated:
            gate_BLF = dense(cfg.intermediate_size, cfg.hidden_size, "gate")(normed_BLD)
            up_BLF = dense(cfg.intermediate_size, cfg.hidden_size, "up")(normed_BLD)
            wide_BLF = activation(gate_BLF) * up_BLF
        else:
            wide_BLF = activation(dense(cfg.intermediate_size, cfg.hidden_size, "wide")(normed_BLD))
        narrow_BLD = dense(cfg.hidden_size, cfg.intermediate_size, "down")(dropout(wide_BLF))
        return x_BLD + dropout(narrow_BLD)


class T5EncoderLayer(nn.Module):
    """Attention, cut, output projection, feed-forward; keys and values of all that entered."""

    cfg: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, words: Words, bias_BHLL, cut: Cut | None, train: bool):
        cfg = self.cfg
        dense = partial(_dense, cfg, self.dtype)
        dropout = partial(Dropout(cfg.dropout), train=train)
        normed_BLD = RMSNorm(cfg.norm_eps, name="attention_norm")(words.x_BLD)
        fan_ins = {"query": cfg.hidden_size * cfg.head_size, "key": cfg.hidden_size,
                   "value": cfg.hidden_size}  # fmt: skip
        q_BLHC, k_BLHC, v_BLHC = (
            split_heads(dense(cfg.query_size, fan_in, name)(normed_BLD), cfg.num_heads)
            for name, fan_in in fan_ins.items()
        )
        if cfg.bias_by_layer:
            bias = relative_bias(cfg, both_ways=True).copy(name="relative_bias")
            bias_BHLL = bias(words.positions_BL, words.positions_BL)
        if words.sizes_BL is not None:  # merged ones are attended to as so many
            bias_BHLL = bias_BHLL + jnp.log(words.sizes_BL)[:, None, None, :]
        weights_BHLL, totals_BHL1 = attention_weights(
            q_BLHC, k_BLHC.swapaxes(1, 2), words.valid_BL[:, None, :], bias_BHLL, scale=1.0
        )
        scores_BL = score_vector(weights_BHLL, words.valid_BL, totals_BHL1)

        offered = {
            "scores_BL": scores_BL,
            "keys_BLE": k_BLHC.reshape(*k_BLHC.shape[:2], -1),
            "key": lambda: self.make_rng("eliminate"),
        }
        kept, words = cut_words(cut, words, offered)
        weights_BHKL = dropout(kept.queries(weights_BHLL, axis=2))
        totals_BHK1 = kept.queries(totals_BHL1, axis=2)
        heads_BKE = kept.attended(attend(weights_BHKL, totals_BHK1, v_BLHC.swapaxes(1, 2)))
        out = dense(cfg.hidden_size, cfg.query_size, "attention_out")
        x_BKD = words.x_BLD + dropout(out(heads_BKE))
        x_BKD = T5FeedForward(cfg, self.dtype, name="ff")(x_BKD, train)
        return words.replace(x_BLD=x_BKD), scores_BL


class T5DecoderLayer(nn.Module):
    """Causal attention against a cache, attention to the encoder, feed-forward."""

    cfg: T5Config
    dtype: jnp.dtype

    def setup(self):
        cfg = self.cfg
        size, query_size = cfg.hidden_size, cfg.query_size

        def dense(width, fan_in):
            return _dense(cfg, self.dtype, width, fan_in, None)

        self.attention_norm, self.cross_norm = RMSNorm(cfg.norm_eps), RMSNorm(cfg.norm_eps)
        self.query = dense(query_size, size * cfg.head_size)
        self.key, self.value = dense(query_size, size), dense(query_size, size)
        self.attention_out = dense(size, query_size)
        self.cross_query = dense(query_size, size * cfg.head_size)
        self.cross_key, self.cross_value = dense(query_size, size), dense(query_size, size)
        self.cross_out = dense(size, query_size)
        self.ff = T5FeedForward(cfg, self.dtype)
        if cfg.bias_by_layer:
            self.relative_bias = relative_bias(cfg, both_ways=False)
        self.dropout = Dropout(cfg.dropout)

    def memory(self, encoded_BKD: jax.Array, positions_BK: jax.Array) -> LayerCache:
        """Keys and values of what remains of the encoder, made once for all tokens."""
        keys, values = (
            self._heads(self.cross_key, encoded_BKD),
            self._heads(self.cross_value, encoded_BKD),
        )
        return LayerCache(keys.swapaxes(1, 2), values.swapaxes(1, 2), positions_BK)

    def __call__(self, x_BSD, positions_BS, bias_BHSJ, memory, bias_B11K, cache, slot, train):
        """Reads tokens at `positions`, after those in `cache` (or nothing).

        Args:
          bias_B11K: what is added to the logits of `memory`: of merged ones the logarithms of how
            many they stand for; or None.

        Returns:
          x_BSD and the cache, these tokens written from `slot` on.
        """
        dropout = partial(self.dropout, train=train)
        normed_BSD = self.attention_norm(x_BSD)
        keys, values = self._heads(self.key, normed_BSD), self._heads(self.value, normed_BSD)
        new = LayerCache(keys.swapaxes(1, 2), values.swapaxes(1, 2), positions_BS)
        cache = new if cache is None else cache.write(new, slot)
        q_BSHC = self._heads(self.query, normed_BSD)
        if self.cfg.bias_by_layer:
            bias_BHSJ = self.relative_bias(positions_BS, cache.positions)
        weights_BHSJ, totals_BHS1 = attention_weights(
            q_BSHC, cache.keys, sees(positions_BS, cache.positions), bias_BHSJ, scale=1.0
        )
        heads_BSE = attend(dropout(weights_BHSJ), totals_BHS1, cache.values)
        x_BSD = x_BSD + dropout(self.attention_out(heads_BSE))

        q_BSHC = self._heads(self.cross_query, self.cross_norm(x_BSD))
        present_B1K = memory.positions[:, None, :] >= 0
        weights_BHSK, totals_BHS1 = attention_weights(
            q_BSHC, memory.keys, present_B1K, bias_B11K, scale=1.0
        )
        heads_BSE = attend(dropout(weights_BHSK), totals_BHS1, memory.values)
        x_BSD = x_BSD + dropout(self.cross_out(heads_BSE))
        return self.ff(x_BSD, train), cache

    def _heads(self, dense, x_BLD: jax.Array) -> jax.Array:
        return split_heads(dense(x_BLD), self.cfg.num_heads)
