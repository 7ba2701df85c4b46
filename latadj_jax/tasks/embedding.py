"""Embedding: one vector for each text, to be compared with those of others."""

from latadj_jax.families.family import EMBEDDING as EMBEDDING_HEAD
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.tasks.task import Task


def _reads_all(config: HfConfig) -> bool:
    return config.embedding.reads(config.protects) != "protected"


def _width(config: HfConfig) -> int:
    return config.embedding.width(config.hidden_size)


def _check(config: HfConfig) -> None:
    if config.embedding is None:
        raise ValueError("an embedding model needs config.embedding, which says how it pools.")
    _width(config)


EMBEDDING = Task(
    name="embedding",
    head=EMBEDDING_HEAD,
    reads_all=_reads_all,
    outputs=("embedding",),
    width=_width,
    check=_check,
)
