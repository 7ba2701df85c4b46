"""Labels of texts, as text-embeddings-inference gives them."""

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from latadj_jax.serving.http.bodies import Predict
from latadj_jax.serving.http.problems import Problem
from latadj_jax.serving.http.service import Service
from latadj_jax.tasks.multi_label import MULTI_LABEL
from latadj_jax.tasks.regression import REGRESSION


def label_routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/", include_in_schema=False)
    @router.post("/predict")
    async def predict(body: Predict, request: Request):
        """Every label with its score, highest first; of a regression its value."""
        texts, is_one = _texts(body.inputs)
        service.check_number(texts, "the request")
        engine, arrived_s = service.engine, request.state.arrived_s
        done = await service.run(lambda: engine.job(texts, None, body.truncate), body, arrived_s)
        answer = [_labels(engine.model, logits_C, body.raw_scores) for logits_C in done.answer]
        return JSONResponse(answer[0] if is_one else answer, headers=done.headers)

    return router


def _texts(inputs) -> tuple[list, bool]:
    """Texts and pairs as the engine reads them, and whether one was sent in place of a list."""
    if isinstance(inputs, str):
        return [inputs], True
    if inputs and isinstance(inputs[0], str):  # as text-embeddings-inference reads it
        inputs, is_one = [inputs], True
    else:
        is_one = False
    if not inputs:
        raise Problem(422, "there are no texts; send one at least.")
    for n, text in enumerate(inputs):
        if len(text) not in (1, 2):
            raise Problem(422, f"text {n} must be a list of one text or of two.")
    return [text[0] if len(text) == 1 else tuple(text) for text in inputs], is_one


def _labels(model, logits_C: np.ndarray, raw: bool) -> list[dict]:
    logits_C = logits_C.astype(np.float64)
    if raw or model.record is REGRESSION:
        scores_C = logits_C
    elif model.record is MULTI_LABEL:
        scores_C = 1 / (1 + np.exp(-logits_C))
    else:
        scores_C = np.exp(logits_C - logits_C.max())
        scores_C /= scores_C.sum()
    order = np.argsort(-scores_C, kind="stable")
    return [{"label": model.config.labels[n], "score": float(scores_C[n])} for n in order]
