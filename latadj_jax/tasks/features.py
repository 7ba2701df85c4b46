"""Features: the hidden states themselves, of every word-vector that is left."""

from latadj_jax.families.family import BASE
from latadj_jax.tasks.task import Task, everything

FEATURES = Task(
    name="features", head=BASE, reads_all=everything, outputs=("hidden", "pooled", "positions")
)
