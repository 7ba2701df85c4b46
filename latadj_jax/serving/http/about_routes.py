"""What a server says of itself."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

import latadj_jax
from latadj_jax.elimination.alpha import alpha_name
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.http.problems import documented
from latadj_jax.serving.http.service import Service
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.ranking import RANKING


def about_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health():
        """200 as soon as the server runs, while it compiles too."""
        return JSONResponse({"status": "ok"})

    @router.get("/ready", responses=documented(503))
    async def ready():
        """200 when it can serve, 503 until then; "starting" is what is still being done."""
        service.check_ready()
        return JSONResponse({"status": "ready", "starting": service.starting})

    @router.get("/info", responses=documented(401))
    async def info():
        """The model, its speeds, and the limits of requests."""
        return JSONResponse(info_of(service))

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics():
        """Prometheus' page."""
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4")

    return router


def info_of(service: Service) -> dict:
    """With the names of text-embeddings-inference where it has one."""
    engine, settings, policy = service.engine, service.settings, service.engine.policy
    model, longest = engine.model, engine.buckets[-1]
    return {
        "model_id": settings.name,
        "model_dtype": model.dtype,
        "model_type": _model_type(model),
        "task": model.task,
        "max_concurrent_requests": settings.max_requests,
        "max_input_length": longest,
        "max_client_batch_size": settings.max_texts,
        "max_batch_requests": engine.batch_sizes[-1],
        "max_batch_tokens": engine.batch_sizes[-1] * longest,
        "max_body_bytes": settings.max_body_bytes,
        "max_waiting_texts": policy.max_waiting,
        "max_waiting_tokens": policy.max_waiting_tokens,
        "auto_truncate": engine.truncate,
        "buckets": list(engine.buckets),
        "batch_sizes": list(engine.batch_sizes),
        "expected_speedup_of_alpha": speeds_of(engine),
        "slo_ms": settings.slo_ms,
        "version": latadj_jax.__version__,
    }


def speeds_of(engine: Engine) -> dict[str, float]:
    """What is expected of each alpha over dense, at the largest bucket."""
    model, longest = engine.model, engine.buckets[-1]
    return {
        alpha_name(alpha): round(expected_speedup(model.plan(alpha, longest)), 2)
        for alpha in engine.alphas
    }


def _model_type(model) -> dict:
    if model.record is EMBEDDING:
        return {"embedding": {"pooling": ",".join(model.config.embedding.modes)}}
    if not model.record.named and model.record is not RANKING:
        return {model.task: {}}
    names = {str(n): label for n, label in enumerate(model.config.labels)}
    kind = "reranker" if model.record is RANKING else "classifier"
    return {kind: {"id2label": names, "label2id": {name: int(n) for n, name in names.items()}}}
