"""How alike two texts are by their embeddings, as sentence-transformers measures it."""

from collections.abc import Callable

import numpy as np


def cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    lengths_N = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    return (a_ND * b_ND).sum(axis=1) / np.maximum(lengths_N, 1e-12)


# Of rows [N, D] and [N, D]: how alike each pair is, [N]; the higher the more.
SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": cosine,
    "dot": lambda a_ND, b_ND: (a_ND * b_ND).sum(axis=1),
    "euclidean": lambda a_ND, b_ND: -np.linalg.norm(a_ND - b_ND, axis=1),
    "manhattan": lambda a_ND, b_ND: -np.abs(a_ND - b_ND).sum(axis=1),
}
