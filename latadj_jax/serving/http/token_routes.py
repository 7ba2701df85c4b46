"""Tags of tokens, and answers from texts, as transformers' pipelines give them."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from latadj_jax.serving import answers, tags
from latadj_jax.serving.http.bodies import Answer, Tag
from latadj_jax.serving.http.problems import Problem
from latadj_jax.serving.http.service import Service


def tag_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/", include_in_schema=False)
    @router.post("/tag")
    async def tag(body: Tag, request: Request):
        """The entities of each text; of a list of words a tag for each."""
        is_one = isinstance(body.inputs, str)
        texts = [body.inputs] if is_one else body.inputs
        if not texts:
            raise Problem(422, "there are no texts; send one at least.")
        service.check_number(texts, "the request")
        engine, arrived_s = service.engine, request.state.arrived_s
        done = await service.run(
            lambda: tags.job(engine, texts, body.aggregation, body.truncate), body, arrived_s
        )
        return JSONResponse(done.answer[0] if is_one else done.answer, headers=done.headers)

    return router


def answer_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/", include_in_schema=False)
    @router.post("/answer")
    async def answer(body: Answer, request: Request):
        """What of the context answers the question; with top_k a list of the best."""
        engine, arrived_s = service.engine, request.state.arrived_s

        def job():
            return answers.job(
                engine, body.question, body.context, body.top_k, no_answer=body.no_answer
            )

        done = await service.run(job, body, arrived_s)
        return JSONResponse(done.answer, headers=done.headers)

    return router
