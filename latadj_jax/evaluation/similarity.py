"""How alike texts are by their embeddings, as sentence-transformers measures it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Similarity(NamedTuple):
    """The higher the more alike.

    Attributes:
      of_pairs: of rows [N, D] and [N, D]: [N].
      of_all: of rows [Q, D] and [N, D], each with each: [Q, N].
    """

    of_pairs: Callable[[np.ndarray, np.ndarray], np.ndarray]
    of_all: Callable[[np.ndarray, np.ndarray], np.ndarray]


def cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    """Of each pair of rows: [N]."""
    return (_unit(a_ND) * _unit(b_ND)).sum(axis=1)


def _unit(x_ND: np.ndarray) -> np.ndarray:
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)


def _by_distance(distance: Callable[[np.ndarray], np.ndarray]) -> Similarity:
    """Less far is more alike; `distance` is of differences [N, D]."""
    return Similarity(
        lambda a_ND, b_ND: -distance(a_ND - b_ND),
        lambda q_QD, x_ND: np.stack([-distance(x_ND - q_D) for q_D in q_QD]),
    )


SIMILARITIES: dict[str, Similarity] = {
    "cosine": Similarity(cosine, lambda q_QD, x_ND: _unit(q_QD) @ _unit(x_ND).T),
    "dot": Similarity(
        lambda a_ND, b_ND: (a_ND * b_ND).sum(axis=1), lambda q_QD, x_ND: q_QD @ x_ND.T
    ),
    "euclidean": _by_distance(lambda x_ND: np.linalg.norm(x_ND, axis=1)),
    "manhattan": _by_distance(lambda x_ND: np.abs(x_ND).sum(axis=1)),
}
