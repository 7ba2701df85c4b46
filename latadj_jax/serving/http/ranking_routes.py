"""Documents ranked for a query: text-embeddings-inference's route, Cohere's and Jina's."""

import uuid

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from latadj_jax.serving import ranking
from latadj_jax.serving.http.bodies import Document, Rerank, RerankDocuments
from latadj_jax.serving.http.service import Done, Service


def ranking_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/", include_in_schema=False)
    @router.post("/rerank")
    async def rerank(body: Rerank, request: Request):
        """Best first. Scores are probabilities, or logits."""
        score = _logits if body.raw_scores else _sigmoid
        done = await _ranked(service, body.query, body.texts, None, score, body, request)
        answer = [{"index": found.index, "score": found.score} for found in done.answer]
        if body.return_text:
            answer = [{**one, "text": body.texts[one["index"]]} for one in answer]
        return JSONResponse(answer, headers=done.headers)

    @router.post("/v2/rerank")
    @router.post("/v1/rerank")
    async def rerank_documents(body: RerankDocuments, request: Request):
        """Best first, with probabilities, as Cohere and Jina have it."""
        texts = [one.text if isinstance(one, Document) else one for one in body.documents]
        done = await _ranked(service, body.query, texts, body.top_n, _sigmoid, body, request)
        results = [{"index": found.index, "relevance_score": found.score} for found in done.answer]
        if body.return_documents:
            results = [{**one, "document": {"text": texts[one["index"]]}} for one in results]
        answer = {
            "id": str(uuid.uuid4()),
            "model": service.settings.name,
            "results": results,
            "usage": {"total_tokens": done.tokens},
            "meta": {"api_version": {"version": "1"}},
        }
        return JSONResponse(answer, headers=done.headers)

    return router


async def _ranked(service, query, texts, top_k, score, body, request: Request) -> Done:
    service.check_number(texts, "the request")
    engine, arrived_s = service.engine, request.state.arrived_s

    def job():
        return ranking.job(engine, query, texts, top_k, truncate=body.truncate, score=score)

    return await service.run(job, body, arrived_s)


def _logits(logits_N1: np.ndarray) -> np.ndarray:
    return logits_N1


def _sigmoid(logits_N1: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits_N1.astype(np.float64)))
