"""Engines of a tiny classifier: their settings, and texts for them."""

import latadj_jax

ALPHAS = (None, 0.9, 0.6)
BUCKETS = (8, 24)
TEXTS = [
    "good word1 word2",
    "bad",
    "word3 " * 15 + "good",
    "word4 bad word5",
    "word6 " * 20,
    "good",
]


def make(parts, **options):
    """One of few programs: a model's own alpha is always among its alphas."""
    options = {"alphas": (), "buckets": (24,), "batch_sizes": (1,), **options}
    return latadj_jax.Engine(*parts, **options)
