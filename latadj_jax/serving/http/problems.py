"""What is answered in place of an answer: a status, one sentence, and the kind of problem."""

import math
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel
from starlette.responses import JSONResponse

from latadj_jax.errors import Overloaded, TooLate, TooLongError


class Problem(Exception):
    """A request that is refused with a status of its own."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


GONE = 499  # what nobody waits for any more; only metrics and the log see it

KINDS = {
    400: "validation", 401: "unauthorized", 404: "not_found", 405: "not_found", 408: "too_slow",
    413: "too_large", 422: "validation", 429: "overloaded", GONE: "gone", 500: "internal",
    503: "not_ready", 504: "too_late",
}  # fmt: skip

OPENAI = "/v1/embeddings"


class Refusal(BaseModel):
    """As text-embeddings-inference writes it."""

    error: str
    error_type: str


class OpenAIError(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIRefusal(BaseModel):
    """As OpenAI writes it."""

    error: OpenAIError


STATUSES = {
    400: "what cannot be read", 401: "the key is missing or wrong", 408: "it came too slowly",
    413: "a body, a text or a number of texts that is too large", 422: "a field that does not fit",
    429: "too much to do", 503: "it cannot serve yet, or not any more",
    504: "the deadline passed before it was computed",
}  # fmt: skip


def documented(*statuses: int, model: type[BaseModel] = Refusal) -> dict:
    """What a route may refuse with, as /docs has it; everything if none is named."""
    return {
        status: {"model": model, "description": STATUSES[status]} for status in statuses or STATUSES
    }


def problem_of(error: Exception) -> Problem:
    """What is answered where `error` was raised."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return Problem(429, str(error), error.retry_after_s)
    if isinstance(error, TooLate):
        return Problem(504, str(error))
    if isinstance(error, TooLongError):
        return Problem(413, str(error))
    if isinstance(error, ValueError):
        return Problem(422, str(error))
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return Problem(503, "the server is ending; it takes no more requests.", 1.0)
    return Problem(500, "the server failed; its log says how.")


def response_of(
    problem: Problem, path: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """As text-embeddings-inference writes it, or as OpenAI does on its own route."""
    message, kind = str(problem), KINDS.get(problem.status, "validation")
    body = {"error": message, "error_type": kind}
    if path == OPENAI:
        body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    headers = dict(headers or {})
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, problem.status, headers)


def of_status(status: int) -> str:
    """A sentence for what the framework refuses by itself."""
    return {404: "there is no such route; /docs lists them.",
            405: "this route takes another method; /docs says which."}.get(
        status, f"{HTTPStatus(status).phrase.lower()}."
    )  # fmt: skip


def sentence_of(errors: list[Mapping], descriptions: Mapping[str, str]) -> str:
    """One sentence for what pydantic found, without anything of what was sent.

    Args:
      descriptions: of each field of the body, what it must be.
    """
    first = errors[0]
    where = [part for part in first["loc"] if part != "body"]
    field = str(where[0]) if where else ""
    if first["type"] == "json_invalid":
        return "the body must be JSON; it cannot be read."
    if field not in descriptions:
        return "the body must be a JSON object, with Content-Type: application/json."
    if first["type"] == "missing":
        return f"{field} is missing; it must be {descriptions[field]}."
    return f"{field} must be {descriptions[field]}."
