"""What config.json says of a DeBERTa v2 or v3, and the row of its table that each distance has."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from latadj_jax.checks import is_integer
from latadj_jax.errors import ConfigError
from latadj_jax.families.hf_config import (
    HfConfig,
    activation_name,
    field,
    flag,
    number,
    share,
    size,
)  # fmt: skip

TERMS = ("c2p", "p2c")  # content to position, position to content
NORMS = ("layer_norm", "none")  # of relative embeddings


def _integer(value: Any, key: str) -> int:
    if not is_integer(value):
        raise ConfigError(f"config.json: {key} must be an integer; it is {value!r}.")
    return value


def _buckets(value: Any, key: str) -> int:
    if _integer(value, key) == 1:
        raise ConfigError(f"config.json: {key} must be at least 2, or -1 for none; it is 1.")
    return value


def _count(value: Any, key: str) -> int:
    return 0 if is_integer(value) and value == 0 else size(value, key)


def _terms(value: Any, key: str) -> tuple[str, ...]:
    """Of "p2c|c2p", or of such a list: ("c2p", "p2c")."""
    terms = value.lower().split("|") if isinstance(value, str) else value
    if isinstance(terms, (list, tuple)):
        found = {str(term).strip() for term in terms}
        if found <= {*TERMS}:
            return tuple(sorted(found))
    raise ConfigError(f"{key} {value!r} is not implemented; implemented are {', '.join(TERMS)}.")


def _norm(value: Any, key: str) -> str:
    names = [name.strip() for name in str(value).lower().split("|")]
    if not {*names} <= {*NORMS}:
        raise ConfigError(
            f"{key} {value!r} is not implemented; implemented are {', '.join(NORMS)}."
        )
    return min(names)  # "layer_norm|none" has it


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaConfig(HfConfig):
    """DeBERTa v2 or v3 encoder without a convolution, as Hugging Face's DebertaV2Config."""

    vocab_size: int = field("vocab_size", size)
    hidden_size: int = field("hidden_size", size)
    embedding_size: int = field("embedding_size", size)
    num_layers: int = field("num_hidden_layers", size)
    num_heads: int = field("num_attention_heads", size)
    intermediate_size: int = field("intermediate_size", size)
    position_rows: int = field("max_position_embeddings", size, 512)
    type_vocab_size: int = field("type_vocab_size", _count, 0)
    has_positions: bool = field("position_biased_input", flag, True)  # absolute ones
    relative: bool = field("relative_attention", flag, False)
    terms: tuple[str, ...] = field("pos_att_type", _terms, ())
    position_buckets: int = field("position_buckets", _buckets, -1)  # of each direction
    max_distance: int = field("max_relative_positions", _integer, -1)
    relative_norm: str = field("norm_rel_ebd", _norm, "none")
    shares_projections: bool = field("share_att_key", flag, False)
    activation: str = field("hidden_act", activation_name, "gelu")
    norm_eps: float = field("layer_norm_eps", number, 1e-7)
    hidden_dropout: float = field("hidden_dropout_prob", share, 0.1)
    attention_dropout: float = field("attention_probs_dropout_prob", share, 0.1)
    pooler_activation: str = field("pooler_hidden_act", activation_name, "gelu")
    pooler_dropout: float = field("pooler_dropout", share, 0.0)
    classifier_dropout: float = field("cls_dropout", share, 0.1)

    model_type = "deberta-v2"
    protects = "cls"
    dropouts = ("hidden_dropout", "attention_dropout", "pooler_dropout", "classifier_dropout")

    @property
    def head_dropout(self) -> float:
        """Of what answers for each token."""
        return self.hidden_dropout

    @property
    def max_positions(self) -> int:
        """Tokens that it can read: distances have no limit."""
        return self.position_rows if self.has_positions else 2**31 - 1

    @property
    def span(self) -> int:
        """Rows of the table of relative embeddings for each direction."""
        return self.position_buckets if self.position_buckets > 0 else self.reach

    @property
    def reach(self) -> int:
        """The distance from which on all are one."""
        return self.max_distance if self.max_distance > 0 else self.position_rows

    def position_macs(self, length: int, n_in: int) -> int:
        """Of each term: the projection of the rows that are needed, and their products."""
        if not self.relative:
            return 0
        num_rows = int(np.ptp(self.rows_of_distances(length))) + 1
        return len(self.terms) * self.hidden_size * num_rows * (self.hidden_size + n_in)

    @staticmethod
    def fill(hf: Mapping[str, Any]) -> dict[str, Any]:
        if hf.get("conv_kernel_size") not in (None, 0):
            raise ConfigError(
                f"conv_kernel_size {hf['conv_kernel_size']!r} is not implemented: of DeBERTa v2 "
                f"only models without a convolution are, as every v3 is."
            )
        hidden, heads = (size(hf.get(key), key) for key in ("hidden_size", "num_attention_heads"))
        if hf.get("attention_head_size") not in (None, hidden / heads):
            raise ConfigError(
                f"attention_head_size {hf['attention_head_size']!r} is not implemented; only "
                f"hidden_size {hidden} over num_attention_heads {heads} is."
            )
        follows = {
            "embedding_size": hidden,
            "cls_dropout": hf.get("hidden_dropout_prob"),
        }
        return {**follows, **{key: value for key, value in hf.items() if value is not None}}

    def to_hf(self) -> dict[str, Any]:
        return {**super().to_hf(), "pooler_hidden_size": self.hidden_size}  # what its head reads

    def __post_init__(self):
        super().__post_init__()
        if self.relative and not self.terms:
            raise ConfigError(
                f"relative_attention is set, and pos_att_type names none of {', '.join(TERMS)}."
            )

    def rows_of_distances(self, length: int) -> np.ndarray:
        """The row that each distance (query minus key) has in the table of relative embeddings.

        Half of the buckets of a direction are for one distance each, the others for ranges that
        grow as its logarithm; the last is for all that are farther.

        Returns:
          int64 [2 * length - 1], of the distances 1 - length to length - 1.

        Source: arXiv 2006.03654, eq. (3), and for the buckets the code of its v2.
        """
        distance_N = np.arange(1 - length, length)
        bucket_N = distance_N
        if self.position_buckets > 0:
            exact = self.position_buckets // 2
            # In float32, as the checkpoints were trained: at a bucket's edge rounding decides.
            far_N = np.maximum(np.abs(distance_N), 1).astype(np.float32)
            with np.errstate(divide="ignore", invalid="ignore"):  # of a reach within `exact`
                steps_N = np.log(far_N / np.float32(exact))
                steps_N /= np.log(np.float32((self.reach - 1) / exact))
                ranged_N = np.ceil(steps_N * np.float32(exact - 1)) + exact
                ranged_N = np.clip(ranged_N, -self.span, self.span).astype(np.int64)
            bucket_N = np.where(far_N <= exact, distance_N, np.sign(distance_N) * ranged_N)
        return np.clip(bucket_N + self.span, 0, 2 * self.span - 1)
