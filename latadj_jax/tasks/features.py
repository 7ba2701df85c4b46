"""Features: the hidden states themselves, of every word-vector that is left."""

from latadj_jax.families.family import BASE
from latadj_jax.tasks.task import Task

FEATURES = Task(
    name="features", head=BASE, reads_all=True, outputs=("hidden", "pooled", "positions")
)
