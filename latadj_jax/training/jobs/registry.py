"""The kinds of runs that there are: a line for each."""

from latadj_jax.errors import SettingsError
from latadj_jax.tasks.task import Task
from latadj_jax.training.jobs import labelled, language_model, seq2seq

# Modules with `TASKS`, the tasks that they train, `load(settings)` and `evaluator(settings, model,
# tokenizer)`.
KINDS = (labelled, language_model, seq2seq)


def kind_of(task: Task):
    """The module that loads what a task is trained on."""
    found = [kind for kind in KINDS if task in kind.TASKS]
    if not found:
        raise SettingsError(f"a model of task {task.name!r} is not trained or evaluated here.")
    return found[0]
