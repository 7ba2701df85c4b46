"""The tasks that there are: a line for each."""

from latadj_jax.families.family import Family
from latadj_jax.tasks.answers import ANSWERS
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.features import FEATURES
from latadj_jax.tasks.language_model import LANGUAGE_MODEL
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.ranking import RANKING
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.seq2seq import SEQ2SEQ
from latadj_jax.tasks.tags import TAGS
from latadj_jax.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        FEATURES,
        EMBEDDING,
        CLASSIFICATION,
        MULTI_LABEL,
        RANKING,  # a checkpoint that says so; another of one label is for regression
        REGRESSION,
        TAGS,
        ANSWERS,
        LANGUAGE_MODEL,
        SEQ2SEQ,
    )
}


def tasks_of(family: Family) -> tuple[str, ...]:
    """Names of the tasks that a family has a head for."""
    return tuple(name for name, task in TASKS.items() if task.head in family.heads)
