"""How well documents are found, at several alphas: by their embeddings, or ranked in pairs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from latadj_jax.data.beir import Collection
from latadj_jax.data.encoded import Encoded
from latadj_jax.evaluation.evaluate import evaluate, rows_of
from latadj_jax.evaluation.rankings import METRICS, ndcg
from latadj_jax.evaluation.results import Results
from latadj_jax.evaluation.settings import EvalSettings
from latadj_jax.evaluation.similarity import SIMILARITIES
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import encode

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
    prompts: Sequence[str] = (),
) -> Results:
    """Embeds the documents, dense and at each alpha, and finds them by dense queries.

    Args:
      max_length: tokens that texts are cut at.
      metrics: names of `rankings.METRICS`.
      prompts: names of the model's, of queries and of documents; its default one without.
      alphas, speedups, settings: as of `evaluate`; times are those of the documents.
    """
    spec = model.config.embedding
    names = (*prompts, None, None)[:2]
    before_query, before_document = (spec.prompt(name) for name in names)
    queries = _encoded(tokenizer, [(before_query + t,) for t in collection.queries.values()],
                       max_length)  # fmt: skip
    there = {key: text for key, text in collection.documents.items() if text}
    documents = _encoded(tokenizer, [(before_document + t,) for t in there.values()], max_length)
    buckets, keys = default_buckets(max_length), np.array([*there])
    dense = {n: model.plan(None, n) for n in buckets}
    queries_QD = rows_of(model, params, queries, dense, settings.batch_size, "queries")
    alike = SIMILARITIES[spec.similarity]

    def score(name: str, part: Encoded, plans, label: str) -> dict[str, float]:
        documents_ND = rows_of(model, params, part, plans, settings.batch_size, label)
        ranked = {}
        for query, query_D in zip(collection.queries, queries_QD, strict=True):
            values_N = alike(np.broadcast_to(query_D, documents_ND.shape), documents_ND)
            ranked[query] = keys[np.argsort(-values_N, kind="stable")[:DEEPEST]].tolist()
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
    rows = [(query, key) for query, keys in candidates.items() for key in keys]
    texts = [(collection.queries[query], collection.documents[key]) for query, key in rows]
    pairs = _encoded(tokenizer, texts, max_length)

    def score(name: str, part: Encoded, plans, label: str) -> dict[str, float]:
        scores_N = model.record.predictions(
            rows_of(model, params, part, plans, settings.batch_size, label)
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

    The best ranking of nDCG is that of all that were judged, candidates or not.
    """
    found: dict[str, list[float]] = {name: [] for name in metrics}
    for query, keys in ranked.items():
        of_query = judged[query]
        if max(of_query.values()) <= 0:
            continue
        relevances = np.array([max(of_query.get(key, 0.0), 0.0) for key in keys])
        for name in metrics:
            value = METRICS[name](relevances)
            if METRICS[name] is ndcg:
                value = ndcg(relevances, [*of_query.values()])
            found[name].append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _encoded(tokenizer, texts: Sequence[tuple[str, ...]], max_length: int) -> Encoded:
    ids = encode(tokenizer, texts, max_length, truncate=True)
    return Encoded(ids, np.zeros(len(ids), np.float32))
