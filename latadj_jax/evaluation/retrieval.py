"""How well documents are found, at several alphas: by their embeddings, or ranked in pairs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from latadj_jax.data.beir import Collection
from latadj_jax.data.encoded import Encoded
from latadj_jax.evaluation.evaluate import evaluate, outputs_of
from latadj_jax.evaluation.rankings import METRICS
from latadj_jax.evaluation.results import Results
from latadj_jax.evaluation.settings import EvalSettings
from latadj_jax.evaluation.similarity import SIMILARITIES
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.model import Model
from latadj_jax.serving.requests import encode_requests
from latadj_jax.tasks.ranking import check_one_score

DEEPEST = 1000  # documents of a query that count


def search(
    model: Model,
    params,
    tokenizer,
    collection: Collection,
    *,
    max_length: int,
    metrics: Sequence[str],
    settings: EvalSettings,
    alphas: Sequence[float] = (),
    speedups: Sequence[float] = (),
    query_prompt: str | None = None,
    document_prompt: str | None = None,
) -> Results:
    """Embeds the documents, dense and at each alpha, and finds them by dense queries.

    Args:
      max_length: tokens that texts are cut at.
      metrics: names of `rankings.METRICS`.
      query_prompt, document_prompt: names of the model's; None is its default one, "" is none.
      alphas, speedups, settings: as of `evaluate`; times are those of the documents.
    """
    spec = model.config.embedding
    before_query, before_document = (spec.prompt(name) for name in (query_prompt, document_prompt))
    longest = min(max_length, spec.max_length or max_length)
    queries = _encoded(model, tokenizer, [*collection.queries.values()], longest, before_query)
    there = {key: text for key, text in collection.documents.items() if text}
    documents = _encoded(model, tokenizer, [*there.values()], longest, before_document)
    buckets, keys = default_buckets(longest), np.array([*there])
    dense = {n: model.plan(None, n) for n in buckets}
    queries_QD = outputs_of(model, params, queries, dense, settings.batch_size, "queries")
    alike = SIMILARITIES[spec.similarity].of_all

    def score(name: str, part: Encoded, plans, label: str) -> dict[str, float]:
        documents_ND = outputs_of(model, params, part, plans, settings.batch_size, label)
        ranked = {
            query: keys[np.argsort(-values_N, kind="stable")[:DEEPEST]].tolist()
            for query, values_N in zip(
                collection.queries, alike(queries_QD, documents_ND), strict=True
            )
        }
        return judge(metrics, collection.judged, ranked)

    settings = dataclasses.replace(settings, metrics=tuple(metrics))
    return evaluate(
        model, params, {"documents": documents}, alphas, settings, buckets, score=score,
        unit="documents", speedups=speedups,
    )  # fmt: skip


def rerank(
    model: Model,
    params,
    tokenizer,
    collection: Collection,
    candidates: Mapping[str, Sequence[str]],
    *,
    max_length: int,
    metrics: Sequence[str],
    settings: EvalSettings,
    alphas: Sequence[float] = (),
    speedups: Sequence[float] = (),
) -> Results:
    """Ranks each query's candidates in pairs with it, dense and at each alpha.

    Arguments as of `search`; candidates as `read_candidates` gives them.
    """
    check_one_score(model.config)
    rows = [(query, key) for query, keys in candidates.items() for key in keys]
    texts = [(collection.queries[query], collection.documents[key]) for query, key in rows]
    pairs = _encoded(model, tokenizer, texts, max_length)

    def score(name: str, part: Encoded, plans, label: str) -> dict[str, float]:
        scores_N = model.record.predictions(
            outputs_of(model, params, part, plans, settings.batch_size, label)
        )
        ranked: dict[str, list[str]] = {}
        for n in np.argsort(-scores_N, kind="stable"):
            ranked.setdefault(rows[n][0], []).append(rows[n][1])
        return judge(metrics, collection.judged, ranked)

    settings = dataclasses.replace(settings, metrics=tuple(metrics))
    return evaluate(
        model, params, {"pairs": pairs}, alphas, settings, default_buckets(max_length),
        score=score, unit="pairs", speedups=speedups,
    )  # fmt: skip


def judge(
    metrics: Sequence[str],
    judged: Mapping[str, Mapping[str, float]],
    ranked: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Means over the queries that have a relevant document; what nobody judged is not relevant.

    All that were judged count, candidates or not: what is missing is not found.
    """
    found: dict[str, list[float]] = {name: [] for name in metrics}
    for query, keys in ranked.items():
        of_query = judged[query]
        if max(of_query.values()) <= 0:
            continue
        relevances = np.array([of_query.get(key, 0.0) for key in keys])
        for name in metrics:
            found[name].append(METRICS[name](relevances, [*of_query.values()]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _encoded(
    model: Model, tokenizer, texts: Sequence, max_length: int, prompt: str | None = None
) -> Encoded:
    """As the engine reads them."""
    examples = encode_requests(
        tokenizer, texts, keys=model.inputs_of(tokenizer), ranges=model.input_ranges,
        max_length=max_length, truncate=True, prompt=prompt, reads_pairs=model.record.reads_pairs,
    )  # fmt: skip
    return Encoded(examples, np.zeros(len(examples), np.float32))
