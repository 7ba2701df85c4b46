"""Questions answered from texts of any length, by a model that finds spans."""

from collections.abc import Sequence
from typing import Any

from latadj_jax.checks import check_integer
from latadj_jax.errors import TextError
from latadj_jax.pretrained.question_windows import Windows, encode_in_windows
from latadj_jax.pretrained.tokenizers import without_surrogates
from latadj_jax.serving.job import Job
from latadj_jax.serving.requests import check_task, checked
from latadj_jax.tasks.answers import ANSWERS
from latadj_jax.tasks.spans import MOST_TOKENS, best_spans

STRIDE = 128  # tokens that two windows share, at most half of the context's in a window


def answer(
    engine,
    question: str | Sequence[str],
    context: str | Sequence[str],
    top_k: int = 1,
    *,
    most_tokens: int = MOST_TOKENS,
    no_answer: bool = False,
    **asked: Any,
) -> Any:
    """Finds the answer to a question in a context.

    A context longer than the largest bucket is read in windows that overlap.

    Args:
      question: a text, or a list of texts.
      context: a text, or a list of texts: there is an answer for each question with its context.
        One question or one context goes with all of the others.
      top_k: number of best answers; with more than one, each answer becomes a list of them.
      most_tokens: longest answer, in tokens.
      no_answer: whether "" may be the answer, which says that there is none.
      **asked: alpha, speedup, latency_ms or infeasible, as in a call of the engine.

    Returns:
      A dict of "score" (the answer's probability, in [0, 1]), "start" and "end" (characters of the
      context) and "answer"; a list of them for a list of questions or contexts.

    Raises:
      ValueError: a model for another task, an empty text, a question that leaves no room for its
        context.
    """
    asking = job(engine, question, context, top_k, most_tokens=most_tokens, no_answer=no_answer)
    return asking.answer(engine.run_encoded(asking.encode, **asked))


def job(
    engine,
    question: str | Sequence[str],
    context: str | Sequence[str],
    top_k: int = 1,
    *,
    most_tokens: int = MOST_TOKENS,
    no_answer: bool = False,
) -> Job:
    """As `answer`, to be run in another way."""
    model = engine.model
    check_task(model, ANSWERS, "answers")
    check_integer("top_k", top_k, 1)
    check_integer("most_tokens", most_tokens, 1)
    pairs, windows = _pairs(question, context), None

    def encode() -> list[dict[str, Any]]:
        nonlocal windows
        if not pairs:
            return []
        longest = engine.buckets[-1]
        windows = encode_in_windows(engine.tokenizer, pairs, longest, STRIDE)
        examples = [{key: window[key] for key in engine.keys} for window in windows.examples]
        return checked(examples, model.input_ranges, longest)

    def best(logits):
        found = _found(pairs, windows, logits, top_k, most_tokens, no_answer) if pairs else []
        found = [some[0] if top_k == 1 else some for some in found]
        return found[0] if isinstance(question, str) and isinstance(context, str) else found

    return Job(encode, best)


def _found(
    pairs, windows: Windows, logits, top_k: int, most_tokens: int, no_answer: bool
) -> list[list[dict[str, Any]]]:
    return [
        [
            span._asdict()
            for span in best_spans(
                context, logits[own], windows.offsets[own], top_k, most_tokens, no_answer
            )
        ]
        for (_, context), own in zip(pairs, windows.of_each(len(pairs)), strict=True)
    ]


def _pairs(question: str | Sequence[str], context: str | Sequence[str]) -> list[tuple[str, str]]:
    """Each question with its context; one of either goes with all of the other."""
    questions = [question] if isinstance(question, str) else list(question)
    contexts = [context] if isinstance(context, str) else list(context)
    if isinstance(question, str):
        questions = questions * len(contexts)
    elif isinstance(context, str):
        contexts = contexts * len(questions)
    if len(questions) != len(contexts):
        raise ValueError(
            f"there are {len(questions)} questions and {len(contexts)} contexts; give each question"
            f" its own, or one for all."
        )
    for what, texts in (("question", questions), ("context", contexts)):
        for n, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise TextError(n, f"must be a text; it is {text!r}.", f"{what} {n}")
    return [
        (without_surrogates(q), without_surrogates(c))
        for q, c in zip(questions, contexts, strict=True)
    ]
