"""Answers to questions, found and measured as SQuAD's own script counts: exact match and F1.

Source: evaluate-v1.1.py of Rajpurkar et al., arXiv 1606.05250; of questions without an answer
that of version 2, arXiv 1806.03822.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from latadj_jax.pretrained.question_windows import Windows
from latadj_jax.tasks.spans import MOST_TOKENS, best_spans

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(answer: str) -> str:
    """In lower case, without punctuation and articles, one space between words."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """Whether both are the same text, 0 or 1."""
    return float(normalized(prediction) == normalized(answer))


def f1(prediction: str, answer: str) -> float:
    """F1 of the words that both have, in [0, 1].

    "the old town of York", "York"   ->   2 * (1/4) * 1 / (1/4 + 1) = 0.4
    """
    predicted, wanted = normalized(prediction).split(), normalized(answer).split()
    if not prediction or not answer:  # there is no answer
        return float(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


METRICS: dict[str, Callable[[str, str], float]] = {"f1": f1, "exact_match": exact_match}


def answer_metrics(
    names: Sequence[str], answers: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
    """The named metrics, each the mean over the questions of the best over a question's answers.

    Args:
      answers: of each question, one or more; () where it has none.
      predictions: of each question; "" for no answer.
    """
    pairs = list(zip(predictions, answers, strict=True))
    return {
        name: float(np.mean([max(METRICS[name](p, a) for a in some or ("",)) for p, some in pairs]))
        for name in names
    }


def found_answers(
    contexts: Sequence[str],
    windows: Windows,
    logits_WT2: np.ndarray,
    no_answer: bool = False,
    most_tokens: int = MOST_TOKENS,
) -> list[str]:
    """The best answer to each question over all windows of its context; "" for none.

    Args:
      logits_WT2: of the windows, T at least the longest.
      no_answer: whether a question may have none.
    """
    logits = [x_T2[: len(at)] for x_T2, at in zip(logits_WT2, windows.offsets, strict=True)]
    found = (
        best_spans(context, logits[own], windows.offsets[own], 1, most_tokens, no_answer)
        for context, own in zip(contexts, windows.of_each(len(contexts)), strict=True)
    )
    return [spans[0].answer if spans else "" for spans in found]
