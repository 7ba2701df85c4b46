"""Documents ranked for a query, the query tokenized once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.checks import check_integer
from latadj_jax.errors import TextError
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.pretrained.tokenizers import check_fast, unread, without_surrogates
from latadj_jax.serving.job import Job
from latadj_jax.serving.requests import check_task, checked
from latadj_jax.tasks.ranking import RANKING, check_one_score, scores

CUTS = ("longest_first", "only_second")


class Ranked(NamedTuple):
    """A document's place in the list that was given, from 0, and its score, higher is better."""

    index: int
    score: float


def rank(
    engine,
    query: str,
    documents: Sequence[str],
    top_k: int | None = None,
    *,
    cut: str = CUTS[0],
    **asked: Any,
) -> list[Ranked]:
    """Ranks documents by how well they answer a query, best first.

    Args:
      query: a text.
      documents: texts.
      top_k: return the best k only; None returns all.
      cut: which text of a pair is cut that is longer than the largest bucket, if the engine has
        `truncate` set: "longest_first", or "only_second", the document.
      **asked: alpha, speedup, latency_ms or infeasible, as in a call of the engine.

    Returns:
      For each document its index in `documents` and its score, as `CrossEncoder.predict` gives it.

    Raises:
      ValueError: no documents, a model for another task, or a text that does not fit.
    """
    engine.check_ready()
    asking = job(engine, query, documents, top_k, cut=cut)
    return asking.answer(engine.run_encoded(asking.encode, **asked))


def job(
    engine,
    query: str,
    documents: Sequence[str],
    top_k: int | None = None,
    *,
    cut: str = CUTS[0],
    truncate: bool | None = None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Job:
    """As `rank`, to be run in another way.

    Args:
      truncate: whether pairs that are too long are cut; by default as the engine does.
      score: function of logits [N, 1]; by default the checkpoint's own activation.
    """
    model, longest = engine.model, engine.buckets[-1]
    check_task(model, RANKING, "ranks")
    check_one_score(model.config)
    documents = check_texts(query, documents)
    if top_k is not None:
        check_integer("top_k", top_k, 1)
    if cut not in CUTS:
        raise ValueError(f"cut must be one of {', '.join(CUTS)}; it is {cut!r}.")
    truncate = engine.truncate if truncate is None else truncate

    def encode() -> list[dict[str, np.ndarray]]:
        marked = PROTECTED in engine.keys
        found = pairs(engine.tokenizer, query, documents, longest, truncate and cut, marked)
        found = [{key: pair[key] for key in engine.keys} for pair in found]
        try:
            return checked(found, model.input_ranges, longest)
        except TextError as error:
            number, what = error.number, error.what
            raise type(error)(number, what, f"the query with document {number}") from None

    def answer(logits_N1: np.ndarray) -> list[Ranked]:
        found = scores(model.config, logits_N1) if score is None else score(logits_N1)
        # By logits: where a sigmoid is 1 they still differ. Every activation keeps their order.
        order = np.argsort(-logits_N1[:, 0], kind="stable")[:top_k]
        return [Ranked(int(n), float(found[n, 0])) for n in order]

    return Job(encode, answer)


def check_texts(query, documents) -> list[str]:
    """The documents; ValueError for a query or a document that is no text, or none at all."""
    if isinstance(documents, str):
        raise ValueError("documents must be a list of texts; it is one string.")
    documents = list(documents)
    if not documents:
        raise ValueError("there are no documents to rank.")
    if not isinstance(query, str) or not query.strip():
        raise ValueError(f"the query must be a text; it is {query!r}.")
    for n, document in enumerate(documents):
        if not isinstance(document, str) or not document.strip():
            raise TextError(n, f"must be a text; it is {document!r}.", f"document {n}")
    return documents


def pairs(
    tokenizer,
    query: str,
    documents: Sequence[str],
    longest: int,
    cut: str | bool,
    marked: bool = False,
) -> list[dict[str, np.ndarray]]:
    """The inputs of the query with each document, as the tokenizer gives them of pairs.

    Args:
      longest: tokens of a pair; with `cut`, what is longer is cut there.
      marked: whether the query's tokens are marked as PROTECTED.

    Raises:
      ValueError: a query that leaves no room for a document, or a text that cannot be read.
    """
    if marked:
        check_fast(tokenizer, "protected tokens")
    query, *documents = map(without_surrogates, (query, *documents))
    others = tokenizer.num_special_tokens_to_add(pair=True)
    try:
        first, found = _pairs(tokenizer, query, documents, longest - others, longest, cut)
    except Exception as error:  # bare, of one that lacks a character and has no unknown token
        texts = [(query, document) for document in documents]
        one = unread(lambda pair: tokenizer(*pair, verbose=False), texts, range(len(texts)))
        raise one or error from None
    if first + others >= longest:
        raise ValueError(
            f"the query has {first} tokens, which with {others} special ones leave no room for a "
            f"document in {longest}: shorten it, or add a larger bucket."
        )
    return found


def _of_query(pair) -> np.ndarray:
    """As `of_first_text`; a pair that is put together knows its second text alone."""
    is_special_T = np.array(pair.special_tokens_mask) == 1
    is_second_T = np.array([number == 1 for number in pair.sequence_ids])
    return (~is_special_T & ~is_second_T).astype(np.int32)


def _pairs(tokenizer, query: str, documents: Sequence[str], room: int, longest: int, cut):
    """The number of the query's own tokens, and the inputs of each pair; none without `room`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # of a tokenizer in Python
        first = len(tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"])
        options = {"truncation": cut, "max_length": longest} if cut else {}
        read = [tokenizer(query, document, verbose=False, **options) for document in documents]
        keys = ("input_ids", "token_type_ids")
        return first, [{key: np.array(pair[key]) for key in keys if key in pair} for pair in read]
    backend.no_padding()
    backend.no_truncation()
    first = backend.encode(query, add_special_tokens=False)
    if len(first) >= room:
        return len(first), []
    seconds = backend.encode_batch_fast(documents, add_special_tokens=False)
    if cut:
        backend.enable_truncation(longest, strategy=cut, direction=tokenizer.truncation_side)
    pairs = [backend.post_process(first, second) for second in seconds]
    backend.no_truncation()
    return len(first), [
        {
            "input_ids": np.array(pair.ids),
            "token_type_ids": np.array(pair.type_ids),
            PROTECTED: _of_query(pair),
        }
        for pair in pairs
    ]
