"""Documents ranked for a query, the query tokenized once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latadj_jax.errors import TextError
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.pretrained.tokenizers import encode, without_surrogates
from latadj_jax.serving.requests import checked, first_tokens, prompt_length
from latadj_jax.tasks.ranking import RANKING, scores

CUTS = ("longest_first", "only_second")


class Ranked(NamedTuple):
    """A document's place in the list that was given, from 0, and its score, higher is better."""

    index: int
    score: float


def rank(engine, query: str, documents: Sequence[str], top_k, cut: str, asked) -> list[Ranked]:
    """As `Engine.rank`."""
    model = engine.model
    if model.task != RANKING.name:
        raise ValueError(f"a model ranks with task {RANKING.name!r}; this is for {model.task!r}.")
    if len(model.config.labels) != 1:
        raise ValueError(
            f"the model gives {len(model.config.labels)} scores to a pair; rank needs one: call "
            f"the engine with pairs, and choose."
        )
    documents = _texts(query, documents)
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, or None for all; it is {top_k}.")
    if cut not in CUTS:
        raise ValueError(f"cut must be one of {', '.join(CUTS)}; it is {cut!r}.")
    longest = engine.buckets[-1]

    def examples() -> list[dict[str, np.ndarray]]:
        found = pairs(engine.tokenizer, query, documents, longest, engine.truncate and cut)
        if PROTECTED in engine.keys:
            number = prompt_length(engine.tokenizer, query)
            found = [{**pair, PROTECTED: first_tokens(number, pair)} for pair in found]
        found = [{key: pair[key] for key in engine.keys} for pair in found]
        return checked(found, model.input_ranges, longest)

    logits_N1 = engine.rows_of(examples, **asked)
    scores_N = scores(model.config, logits_N1)[:, 0]
    order = np.argsort(-scores_N, kind="stable")[:top_k]
    return [Ranked(int(n), float(scores_N[n])) for n in order]


def _texts(query, documents) -> list[str]:
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
    tokenizer, query: str, documents: Sequence[str], longest: int, cut: str | bool
) -> list[dict[str, np.ndarray]]:
    """The inputs of the query with each document, as the tokenizer gives them of pairs.

    Args:
      longest: tokens of a pair; with `cut`, what is longer is cut there.

    Raises:
      ValueError: a query that leaves no room for a document.
    """
    asked = len(tokenizer(query, verbose=False)["input_ids"])
    if asked + 1 >= longest:
        raise ValueError(
            f"the query has {asked} tokens, and with a document it must fit into {longest}: "
            f"shorten it, or add a larger bucket."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # of a tokenizer in Python
        return encode(tokenizer, [(query, text) for text in documents], longest, bool(cut))
    query, *documents = map(without_surrogates, (query, *documents))
    backend.no_padding()
    backend.no_truncation()
    first = backend.encode(query, add_special_tokens=False)
    seconds = backend.encode_batch_fast(documents, add_special_tokens=False)
    if cut:
        backend.enable_truncation(longest, strategy=cut)
    found = [backend.post_process(first, second) for second in seconds]
    names = {"input_ids": "ids", "token_type_ids": "type_ids"}
    return [{key: np.array(getattr(pair, name)) for key, name in names.items()} for pair in found]
