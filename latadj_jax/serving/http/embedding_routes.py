"""Vectors of texts: as text-embeddings-inference has them, and as OpenAI has them."""

import base64

import numpy as np
import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from latadj_jax.serving.http.bodies import Embed, Embeddings
from latadj_jax.serving.http.problems import OpenAIRefusal, Problem, documented
from latadj_jax.serving.http.service import Done, Service


def embedding_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/", include_in_schema=False)
    @router.post("/embed")
    async def embed(body: Embed, request: Request):
        """A vector for each text."""
        done = await _vectors(service, body.inputs, body, request, body.prompt_name)
        vectors_ND = _unit(done.answer) if body.normalize else done.answer
        return _response(vectors_ND, done)

    @router.post("/v1/embeddings", responses=documented(model=OpenAIRefusal))
    async def embeddings(body: Embeddings, request: Request):
        """OpenAI's: a vector for each text, as numbers or as base64 of float32."""
        width = service.engine.model.row_width
        if body.dimensions not in (None, width):
            raise Problem(422, f"dimensions must be {width}, the width of the model's vectors.")
        done = await _vectors(service, body.input, body, request, None)
        vectors_ND = _unit(done.answer)
        data = [
            {"object": "embedding", "index": n, "embedding": _written(vector_D, body)}
            for n, vector_D in enumerate(vectors_ND)
        ]
        usage = {"prompt_tokens": done.tokens, "total_tokens": done.tokens}
        answer = {"object": "list", "data": data, "model": service.settings.name, "usage": usage}
        return _response(answer, done)

    return router


async def _vectors(service: Service, inputs, body, request: Request, prompt: str | None) -> Done:
    one = isinstance(inputs, str) or (inputs and isinstance(inputs[0], int))
    texts = [inputs] if one else inputs
    if not texts:
        raise Problem(422, "there are no texts; send one at least.")
    service.check_number(texts, "the request")
    engine, arrived_s = service.engine, request.state.arrived_s
    return await service.run(lambda: engine.job(texts, prompt, body.truncate), body, arrived_s)


def _response(answer, done: Done) -> Response:
    """Arrays are written as lists, each number with as few digits as a float32 needs."""
    written = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(written, headers=done.headers, media_type="application/json")


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return (vectors_ND / np.maximum(lengths_N1, 1e-12)).astype(np.float32)


def _written(vector_D: np.ndarray, body: Embeddings):
    if body.encoding_format == "base64":
        return base64.b64encode(vector_D.astype("<f4").tobytes()).decode("ascii")
    return vector_D
