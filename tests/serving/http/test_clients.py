"""Clients that know nothing of this package."""

import asyncio
import random

import httpx
import numpy as np
import pytest
from served import KEY, client_of
from tolerance import SAME

from latadj_jax.model.apply import apply
from latadj_jax.model.buckets import pad

TEXTS = ["good word1 word2", "bad", "word3 good word4 word5"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding")
    with client_of(folder, "embedding", api_key=KEY, slo_ms=20_000) as client:
        yield client


def expected(engine, texts, alpha) -> np.ndarray:
    """Each text by itself, without an engine."""
    batches = [pad([example], 24) for example in engine._encoded(texts)]
    params = engine._programs.params
    return np.stack([apply(engine.model, params, batch, alpha).embedding[0] for batch in batches])


def test_openai(embedder):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{embedder.base_url}/v1", api_key=KEY, max_retries=0)
    found = client.embeddings.create(model="any", input=TEXTS)  # base64, by default
    vectors = [one.embedding for one in found.data]
    np.testing.assert_allclose(vectors, expected(embedder.service.engine, TEXTS, None), **SAME)
    faster = client.embeddings.create(model="any", input=TEXTS, extra_body={"alpha": 0.9})
    np.testing.assert_allclose(
        [one.embedding for one in faster.data],
        expected(embedder.service.engine, TEXTS, 0.9),
        **SAME,
    )
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions must be 32"):
        client.embeddings.create(model="any", input=TEXTS, dimensions=7)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{embedder.base_url}/v1", api_key="no").embeddings.create(
            model="any", input="good"
        )


def test_huggingface_hub(embedder, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)  # it asks this machine alone
    client = hub.InferenceClient(model=f"{embedder.base_url}/embed", token=KEY)
    found = client.feature_extraction(TEXTS[0])
    np.testing.assert_allclose(found, expected(embedder.service.engine, TEXTS[:1], None), **SAME)


def test_llama_index_embeds(embedder):
    module = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    client = module.TextEmbeddingsInference("tiny", str(embedder.base_url), auth_token=KEY)
    found = client.get_text_embedding_batch(TEXTS)
    np.testing.assert_allclose(found, expected(embedder.service.engine, TEXTS, None), **SAME)
    found = client.get_query_embedding(f"{TEXTS[0]} " * 10)  # it asks to have long texts cut
    engine = embedder.service.engine
    cut = engine._encoded([f"{TEXTS[0]} " * 10], truncate=True)
    alone = apply(engine.model, engine._programs.params, pad(cut, 24), None).embedding[0]
    np.testing.assert_allclose(found, alone, **SAME)


def test_llama_index_reranks(tmp_path):
    schema = pytest.importorskip("llama_index.core.schema")
    module = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    with client_of(tmp_path, "ranking", api_key=KEY) as client:
        ranker = module.TextEmbeddingInference(
            top_n=2, base_url=str(client.base_url), auth_token=f"Bearer {KEY}"
        )
        found = ranker.postprocess_nodes(nodes, query_str="good")
        logits = client.service.engine([("good", text) for text in TEXTS], alpha=0.9)[:, 0]
    order = np.argsort(-logits)[:2]
    assert [one.node.text for one in found] == [TEXTS[n] for n in order]
    scores = 1 / (1 + np.exp(-logits[order]))
    np.testing.assert_allclose([one.score for one in found], scores, **SAME)


def test_two_hundred_at_once_each_get_their_own(embedder):
    """Of other lengths, alphas and numbers of texts; fails where answers are mixed up or lost."""
    rng = random.Random(0)
    asked = [
        (
            [" ".join(f"word{rng.randrange(40)}" for _ in range(rng.randint(1, 20)))
             for _ in range(rng.randint(1, 3))],
            rng.choice([None, 0.9]),
        )
        for _ in range(200)
    ]  # fmt: skip

    async def ask_all():
        headers = {"Authorization": f"Bearer {KEY}"}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=embedder.base_url, headers=headers, timeout=60, limits=limits
        ) as client:
            bodies = [{"inputs": texts, "alpha": alpha or "dense"} for texts, alpha in asked]
            return await asyncio.gather(*(client.post("/embed", json=body) for body in bodies))

    responses = asyncio.run(ask_all())
    assert [response.status_code for response in responses] == [200] * 200
    for alpha in (None, 0.9):
        mine = [n for n, (_, given) in enumerate(asked) if given == alpha]
        texts = [text for n in mine for text in asked[n][0]]
        vectors = [vector for n in mine for vector in responses[n].json()]
        engine = embedder.service.engine
        np.testing.assert_allclose(vectors, engine(texts, alpha=alpha), **SAME)
        assert {responses[n].headers["x-latadj-alpha"] for n in mine} == {
            "dense" if alpha is None else "0.9"
        }
