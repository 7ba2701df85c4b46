"""Embedding: one vector for each text, to be compared with those of others."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import EMBEDDING as EMBEDDING_HEAD
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.layers.products import product
from latadj_jax.tasks.task import Outcome, Passes, Task, check_each, labelled_weight

SECOND = "second_"  # before the names of what belongs to the second of two texts
SHARPNESS = 20.0  # of CoSENT: how much a difference of cosines counts


def halves(example: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What belongs to the first of two texts, and what to the second, under its usual names."""
    first = {key: value for key, value in example.items() if not key.startswith(SECOND)}
    second = {
        key.removeprefix(SECOND): value for key, value in example.items() if key.startswith(SECOND)
    }
    return first, second


def _outcome(passes: Passes, batch: Mapping[str, Any], plan: Plan) -> Outcome:
    """Embeddings [B, D] of texts, or [B, 2, D] of pairs whose likeness is `labels` [B]."""
    texts = [half for half in halves(batch) if half]
    embeddings = [passes.whole(text, plan).embedding for text in texts]
    found = jnp.stack(embeddings, axis=1) if len(embeddings) > 1 else embeddings[0]
    return Outcome(found, batch["labels"], batch["weights"])


def cosent(pairs_B2D: jax.Array, likeness_B: jax.Array, weights_B: jax.Array) -> jax.Array:
    """Cosines in the order of the labels, times the sum of the weights.

        log(1 + sum over i, j with label_i > label_j of exp(20 (cos_j - cos_i)))

    Source: Huang et al., IEEE/ACM TASLP 2024, doi 10.1109/TASLP.2024.3402087.
    """
    a_BD, b_BD = pairs_B2D[:, 0], pairs_B2D[:, 1]
    lengths_B = jnp.sqrt(jnp.square(a_BD).sum(axis=-1) * jnp.square(b_BD).sum(axis=-1) + 1e-24)
    cosine_B = (a_BD * b_BD).sum(axis=-1) / lengths_B
    wrong_BB = SHARPNESS * (cosine_B[None, :] - cosine_B[:, None])
    ordered_BB = likeness_B[:, None] > likeness_B[None, :]
    there_B = weights_B > 0
    counted_BB = ordered_BB & there_B[:, None] & there_B[None, :]
    terms = jnp.where(counted_BB, wrong_BB, -jnp.inf).reshape(-1)
    return jax.nn.logsumexp(jnp.append(terms, 0.0)) * weights_B.sum()


def distance(embeddings: jax.Array, teacher: jax.Array, weights_B: jax.Array) -> jax.Array:
    """How far embeddings are from a teacher's, each by itself and in how alike they are.

        sum_i w_i (|e_i - t_i|^2 / 2 + mean_j (e_i e_j - t_i t_j)^2)

    with e and t divided by the length of t_i: for unit vectors the first is 1 - cosine.

    Args:
      embeddings, teacher: float32 [B, D], or [B, 2, D] of pairs.
    """
    width = embeddings.shape[-1]
    texts = embeddings.size // width // len(weights_B)  # of an example: 1 or 2
    weights_N = jnp.repeat(weights_B, texts)
    t_ND, e_ND = jax.lax.stop_gradient(teacher).reshape(-1, width), embeddings.reshape(-1, width)
    scale_N1 = jax.lax.rsqrt(jnp.square(t_ND).sum(axis=-1, keepdims=True) + 1e-24)
    t_ND, e_ND = t_ND * scale_N1, e_ND * scale_N1
    own_N = jnp.square(e_ND - t_ND).sum(axis=-1) / 2
    alike_NM = jnp.square(product("ND,MD->NM", e_ND, e_ND) - product("ND,MD->NM", t_ND, t_ND))
    others_NM = weights_N[None, :] * (1 - jnp.eye(len(weights_N), dtype=jnp.float32))
    mean_N = (alike_NM * others_NM).sum(axis=1) / jnp.maximum(others_NM.sum(axis=1), 1.0)
    return jnp.sum(weights_N * (own_N + mean_N)) / texts


def _reads_all(config: HfConfig) -> bool:
    return config.embedding.reads(config.protects) != "protected"


def _width(config: HfConfig) -> int:
    return config.embedding.width(config.hidden_size)


def _check(config: HfConfig) -> None:
    if config.embedding is None:
        raise ValueError("an embedding model needs config.embedding, which says how it pools.")
    _width(config)


def _check_labels(labels_N: np.ndarray, num_labels: int) -> None:
    labels_N = np.asarray(labels_N)
    check_each(np.isfinite(labels_N), labels_N, "finite", "likeness")


EMBEDDING = Task(
    name="embedding",
    head=EMBEDDING_HEAD,
    reads_all=_reads_all,
    outputs=("embedding",),
    width=_width,
    metrics=("spearman", "pearson", "fidelity"),
    agreement="fidelity",
    check=_check,
    labels="likeness",
    compares_rows=True,
    loss=cosent,
    distance=distance,
    outcome=_outcome,
    weight=labelled_weight,
    predictions=lambda rows_ND: rows_ND,
    teaches=lambda rows_ND: rows_ND,
    check_labels=_check_labels,
)
