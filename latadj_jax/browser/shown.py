"""What the page asks of a user and shows as the answer, for each task that it knows."""

import dataclasses
from collections.abc import Callable

from latadj_jax.families.hf_config import HfConfig
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.ranking import RANKING, activation_name, check_one_score
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Shown:
    """
    Attributes:
      first, others: what the fields for one text, and for several, a line each, are called; a page
        without the latter has "".
      examples: what stands in them.
      answer: the name of a function in answers.js, that gives bars.
      check: of a config. Raises ValueError for one whose answer cannot be shown.
    """

    first: str
    answer: Callable[[HfConfig], str]
    examples: tuple[str, ...]
    others: str = ""
    check: Callable[[HfConfig], None] = lambda config: None


TEXT = ("The staff were friendly, but my bag was lost again and nobody knew where it went.",)
SENTENCES = (
    "A man is playing a guitar on the street.",
    "Someone plays an instrument outdoors.\nThe orchestra rehearses in the old hall.\n"
    "Shares fell sharply on Monday morning.",
)
DOCUMENTS = (
    "How do I get my money back?",
    "Refunds are paid to the card that was charged, within ten days.\n"
    "Our shop is open from nine to five.\nBags of up to eight kilograms travel free of charge.",
)
SHOWN: dict[Task, Shown] = {
    CLASSIFICATION: Shown("Text", lambda config: "softmax", TEXT),
    MULTI_LABEL: Shown("Text", lambda config: "sigmoid", TEXT),
    REGRESSION: Shown("Text", lambda config: "values", TEXT),
    EMBEDDING: Shown("Sentence", lambda config: "cosine", SENTENCES, "Others, one a line"),
    RANKING: Shown(
        "Query", lambda config: f"rank{activation_name(config)}", DOCUMENTS,
        "Documents, one a line", check_one_score,
    ),
}  # fmt: skip
