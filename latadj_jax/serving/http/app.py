"""The application: the routes that the model's task has, errors of one sentence, /docs."""

import contextlib

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import latadj_jax
from latadj_jax.serving.http.about_routes import about_routes
from latadj_jax.serving.http.bodies import Body
from latadj_jax.serving.http.embedding_routes import embedding_routes
from latadj_jax.serving.http.guard import Guard
from latadj_jax.serving.http.label_routes import label_routes
from latadj_jax.serving.http.page_routes import page_routes
from latadj_jax.serving.http.problems import (
    Problem,
    documented,
    of_status,
    problem_of,
    response_of,
    sentence_of,
)
from latadj_jax.serving.http.ranking_routes import ranking_routes
from latadj_jax.serving.http.service import Service
from latadj_jax.serving.http.token_routes import answer_routes, tag_routes
from latadj_jax.tasks.answers import ANSWERS
from latadj_jax.tasks.classification import CLASSIFICATION
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.ranking import RANKING
from latadj_jax.tasks.regression import REGRESSION
from latadj_jax.tasks.tags import TAGS

ROUTES = {
    EMBEDDING: embedding_routes,
    RANKING: ranking_routes,
    CLASSIFICATION: label_routes,
    MULTI_LABEL: label_routes,
    REGRESSION: label_routes,
    TAGS: tag_routes,
    ANSWERS: answer_routes,
}


def make_app(service: Service) -> Guard:
    """The ASGI application of one service, which it closes at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        service.close()

    app = FastAPI(
        title=f"latadj: {service.settings.name}", version=latadj_jax.__version__,
        lifespan=lifespan, redoc_url=None,
    )  # fmt: skip
    own, about = ROUTES[service.engine.model.record](service), about_routes(service)
    page = page_routes(service, _paths(own))
    app.include_router(own, responses=documented())
    for router in (about, page):
        app.include_router(router)
    known = {"/docs", "/openapi.json", *_paths(own), *_paths(about), *_paths(page)}
    _add_others(app, service, _paths(own))
    _add_problems(app)
    return Guard(app, service.settings, service.metrics, known)


def _paths(router: APIRouter) -> set[str]:
    return {route.path for route in router.routes}


def _add_others(app: FastAPI, service: Service, own: set[str]) -> None:
    """Routes of other tasks say what this model is for."""
    task = service.engine.model.task
    has = " and ".join(sorted(own - {"/"}))

    async def refuse(request: Request):
        raise Problem(404, f"this model is for {task!r}: it answers {has}.")

    for path in set().union(*(_paths(routes(service)) for routes in ROUTES.values())) - own:
        app.add_api_route(path, refuse, methods=["POST"], include_in_schema=False)


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError):
        problem = Problem(422, sentence_of(error.errors(), _descriptions(request)))
        return response_of(problem, request.url.path)

    @app.exception_handler(HTTPException)
    async def by_framework(request: Request, error: HTTPException):
        status = error.status_code
        sentence = "the body cannot be read as JSON." if status == 400 else of_status(status)
        return response_of(Problem(status, sentence), request.url.path, error.headers)

    async def known(request: Request, error: Exception):
        return response_of(problem_of(error), request.url.path)

    for kind in (Problem, ValueError, RuntimeError, Exception):  # the last is logged by the server
        app.add_exception_handler(kind, known)


def _descriptions(request: Request) -> dict[str, str]:
    """What each field of the route's body must be."""
    parameters = request.scope["route"].endpoint.__annotations__.values()
    bodies = [kind for kind in parameters if isinstance(kind, type) and issubclass(kind, Body)]
    return {
        name: field.description or "as /docs says"
        for body in bodies
        for name, field in body.model_fields.items()
    }
