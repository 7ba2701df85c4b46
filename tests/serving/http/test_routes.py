"""Each route of each task, by a plain client."""

import base64

import httpx
import jax
import malformed
import numpy as np
import pytest
from served import client_of, make_engine, make_service, served
from tolerance import SAME

TEXTS = ["good word1 word2", "bad", "word3 good word4 word5"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("embedding"), "embedding") as client:
        yield client


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("ranking"), "ranking") as client:
        yield client


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("classification"), "classification") as client:
        yield client


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("tags"), "token-classification") as client:
        yield client


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("answers"), "question-answering") as client:
        yield client


def post(client, path, **body):
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response


# ---- embeddings -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_embed_gives_a_vector_for_each_text(embedder, path):
    expected = embedder.service.engine(TEXTS)
    np.testing.assert_allclose(post(embedder, path, inputs=TEXTS).json(), expected, **SAME)
    np.testing.assert_allclose(post(embedder, path, inputs=TEXTS[1]).json(), expected[1:2], **SAME)


def test_token_ids_are_texts_too(embedder):
    ids = [embedder.service.engine.tokenizer(text)["input_ids"] for text in TEXTS]
    expected = embedder.service.engine(TEXTS)
    np.testing.assert_allclose(post(embedder, "/embed", inputs=ids).json(), expected, **SAME)
    one = post(embedder, "/v1/embeddings", input=ids[1], model="any").json()["data"]
    np.testing.assert_allclose(one[0]["embedding"], expected[1], **SAME)


def test_openai_s_embeddings_as_numbers_and_as_base64(embedder):
    expected = embedder.service.engine(TEXTS)
    answer = post(embedder, "/v1/embeddings", input=TEXTS, model="any", user="me").json()
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    assert answer["usage"] == {"prompt_tokens": 14, "total_tokens": 14}  # two are special ones
    np.testing.assert_allclose([one["embedding"] for one in answer["data"]], expected, **SAME)
    answer = post(embedder, "/v1/embeddings", input=TEXTS, encoding_format="base64").json()
    decoded = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    np.testing.assert_allclose(decoded, expected, **SAME)


@pytest.mark.parametrize(
    ("asked", "alpha"),
    [({}, "0.9"), ({"alpha": "dense"}, "dense"), ({"alpha": 0.9}, "0.9"), ({"speedup": 1}, "dense"),
     ({"latency_ms": 60_000}, "dense"), ({"latency_ms": 60_000, "alpha": 0.9}, "0.9")],
)  # fmt: skip
def test_headers_say_how_it_was_served(embedder, asked, alpha):
    response = post(embedder, "/embed", inputs=TEXTS, **asked)
    assert response.headers["x-latadj-alpha"] == alpha
    speedup = float(response.headers["x-latadj-speedup"])
    assert speedup == 1 if alpha == "dense" else speedup > 1
    assert float(response.headers["x-latadj-waited-ms"]) >= 0
    assert float(response.headers["x-latadj-ran-ms"]) > 0
    assert "x-latadj-late-ms" not in response.headers
    given = None if alpha == "dense" else float(alpha)
    expected = embedder.service.engine(TEXTS, alpha=given)
    np.testing.assert_allclose(response.json(), expected, **SAME)


def test_an_alpha_may_be_given_as_it_is_told(tmp_path):
    """Of 0.8799999866 headers and /info say 0.88."""
    service = make_service(make_engine(tmp_path, "embedding", alphas=(None, 0.8799999866)))
    with served(service) as address, httpx.Client(base_url=address) as client:
        (told,) = {*client.get("/info").json()["expected_speedup_of_alpha"]} - {"dense", "0.9"}
        response = post(client, "/embed", inputs=TEXTS, alpha=float(told))
        assert response.headers["x-latadj-alpha"] == told == "0.88"


def test_long_texts_are_cut_where_that_is_asked_for(embedder):
    long = "word1 " * 40
    refused = embedder.post("/embed", json={"inputs": ["good", long]})
    assert refused.status_code == 413
    assert refused.json()["error"].startswith("text 1 has 42 tokens, the largest bucket 24")
    assert len(post(embedder, "/embed", inputs=["good", long], truncate=True).json()) == 2


# ---- other tasks ------------------------------------------------------------------------------


def test_rerank_is_best_first(ranker):
    query, logits = "good", ranker.service.engine([("good", text) for text in TEXTS])[:, 0]
    order = [int(n) for n in np.argsort(-logits)]
    raw = post(ranker, "/rerank", query=query, texts=TEXTS, raw_scores=True).json()
    assert [one["index"] for one in raw] == order
    np.testing.assert_allclose([one["score"] for one in raw], logits[order], **SAME)
    scored = post(ranker, "/rerank", query=query, texts=TEXTS, return_text=True).json()
    probabilities = 1 / (1 + np.exp(-logits[order]))
    np.testing.assert_allclose([one["score"] for one in scored], probabilities, **SAME)
    assert [one["text"] for one in scored] == [TEXTS[n] for n in order]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_are_ranked_as_cohere_has_it(ranker, path):
    documents = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    body = {"query": "good", "documents": documents, "model": "any", "top_n": 2}
    answer = post(ranker, path, **body, return_documents=True).json()
    own = post(ranker, "/rerank", query="good", texts=TEXTS).json()[:2]
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [
        (one["index"], pytest.approx(one["score"], abs=1e-5)) for one in own
    ]
    assert answer["results"][0]["document"] == {"text": TEXTS[own[0]["index"]]}
    assert answer["usage"]["total_tokens"] > 10


def test_predict_gives_every_label_highest_first(classifier):
    logits_NC = classifier.service.engine(TEXTS)
    answer = post(classifier, "/predict", inputs=[[text] for text in TEXTS]).json()
    for found, logits_C in zip(answer, logits_NC, strict=True):
        scores = np.exp(logits_C) / np.exp(logits_C).sum()
        assert [one["label"] for one in found] == [f"name-{n}" for n in np.argsort(-logits_C)]
        np.testing.assert_allclose([one["score"] for one in found], sorted(scores)[::-1], **SAME)
    one = post(classifier, "/predict", inputs=TEXTS[0], raw_scores=True).json()
    np.testing.assert_allclose(
        [found["score"] for found in one], sorted(logits_NC[0])[::-1], **SAME
    )
    pair = post(classifier, "/predict", inputs=TEXTS[:2], raw_scores=True).json()
    expected = sorted(classifier.service.engine([tuple(TEXTS[:2])])[0])[::-1]
    np.testing.assert_allclose([found["score"] for found in pair], expected, **SAME)


def test_tag_is_as_the_engine_tags(tagger):
    engine, words = tagger.service.engine, ["good", "word1"]

    def near(found):
        return [{**one, "score": pytest.approx(one["score"], abs=1e-4)} for one in found]

    expected = engine.tag([*TEXTS, words], aggregation="first")
    answer = post(tagger, "/tag", inputs=[*TEXTS, words], aggregation="first").json()
    assert answer == [near(found) for found in expected]
    assert post(tagger, "/tag", inputs=TEXTS[0]).json() == near(engine.tag([TEXTS[0]])[0])


def test_answer_is_as_the_engine_answers(answerer):
    asked = {"question": "good word1", "context": "word2 word3 bad " * 10}
    expected = answerer.service.engine.answer(**asked)
    answer = post(answerer, "/answer", **asked).json()
    assert answer == {**expected, "score": pytest.approx(expected["score"], abs=1e-4)}
    assert len(post(answerer, "/answer", **asked, top_k=3).json()) == 3


@pytest.mark.parametrize(
    ("task", "own", "others"),
    [
        ("embedder", "/embed and /v1/embeddings", ("/rerank", "/predict", "/tag", "/answer")),
        ("ranker", "/rerank and /v1/rerank and /v2/rerank", ("/embed", "/v1/embeddings")),
        ("classifier", "/predict", ("/embed", "/v1/rerank")),
    ],
)
def test_other_routes_say_what_the_model_is_for(request, task, own, others):
    client = request.getfixturevalue(task)
    for path in others:
        response = client.post(path, json={"inputs": "good"})
        assert response.status_code == 404
        assert f"{own}." in response.text


def test_several_labels_have_a_probability_each(tmp_path):
    with client_of(tmp_path, "multi-label") as client:
        (logits_C,) = client.service.engine(TEXTS[:1])
        found = post(client, "/predict", inputs=TEXTS[0]).json()
    np.testing.assert_allclose(
        [one["score"] for one in found], sorted(1 / (1 + np.exp(-logits_C)))[::-1], **SAME
    )


def test_a_regression_gives_its_value(tmp_path):
    with client_of(tmp_path, "regression") as client:
        ((value,),) = client.service.engine(TEXTS[:1])
        (found,) = post(client, "/predict", inputs=TEXTS[0]).json()
    assert found["score"] == pytest.approx(float(value), abs=1e-4)


@pytest.mark.parametrize(
    ("task", "path", "body"),
    [
        ("ranker", "/rerank", lambda texts: {"query": "good", "texts": texts}),
        ("ranker", "/v1/rerank", lambda texts: {"query": "good", "documents": texts}),
        ("classifier", "/predict", lambda texts: {"inputs": [[text] for text in texts]}),
        ("tagger", "/tag", lambda texts: {"inputs": texts}),
    ],
)
def test_every_task_has_its_limits(request, task, path, body):
    client = request.getfixturevalue(task)
    many = client.post(path, json=body(["good"] * 257))
    assert (many.status_code, many.json()["error_type"]) == (413, "too_large")
    assert "holds 257 texts; a request may have 256" in many.json()["error"]
    long = body(["good", "word1 " * 40])
    refused = client.post(path, json=long)
    assert refused.status_code == 413
    assert "1 has" in refused.json()["error"]
    post(client, path, **long, truncate=True)


def test_that_there_is_no_answer_may_be_the_answer(answerer):
    """Fails where the body's word for it is not heard: an empty answer then is never given."""
    asked = {"question": "good", "context": "word2 word3", "top_k": 100}
    texts = [one["answer"] for one in post(answerer, "/answer", **asked, no_answer=True).json()]
    assert "" in texts
    assert "" not in [one["answer"] for one in post(answerer, "/answer", **asked).json()]


TASKS = ("embedder", "ranker", "classifier", "tagger", "answerer")


@pytest.mark.parametrize("task", TASKS)
def test_spoiled_bodies_are_refused_in_one_sentence(request, task):
    """Cut off, nested, encoded otherwise, of wrong types; fails at any 500."""
    found = malformed.send_bytes(request.getfixturevalue(task), 60)
    assert found[422] > 10
    assert found[200] < 30


# ---- what it says of itself -------------------------------------------------------------------


def test_info_states_the_limits(embedder):
    info = embedder.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["model_id"], info["max_input_length"]) == ("tiny", 24)
    assert info["expected_speedup_of_alpha"]["dense"] == 1
    assert info["max_client_batch_size"] == 256


def test_docs_list_the_model_s_routes_alone(embedder):
    paths = embedder.get("/openapi.json").json()["paths"]
    assert {"/embed", "/v1/embeddings", "/info", "/health", "/ready", "/metrics", "/stats"} == {
        *paths
    }
    assert embedder.get("/docs").status_code == 200


def test_metrics_count(embedder):
    def value(name: str) -> float:
        lines = embedder.get("/metrics").text.split("\n")
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = ['latadj_texts_total{alpha="0.9"}', "latadj_batch_texts_count",
             "latadj_waited_seconds_count",
             'latadj_requests_total{route="/embed",status="200"}',
             'latadj_refusals_total{reason="validation"}',
             'latadj_compilations_total{when="serving"}']  # fmt: skip
    before = [value(name) for name in names]
    post(embedder, "/embed", inputs=TEXTS)
    assert embedder.post("/embed", json={"inputs": 3}).status_code == 422
    after = [value(name) for name in names]
    texts, batches, waited, requests, refusals, compilations = np.subtract(after, before)
    assert (texts, waited, requests, refusals, compilations) == (3, 3, 1, 1, 0)
    assert 1 <= batches <= 3
    assert value("latadj_queue_texts") == 0
    assert value('latadj_refusals_total{reason="other"}') == 0  # an answer is no refusal


def test_what_is_compiled_while_it_serves_is_counted(embedder):
    name = 'latadj_compilations_total{when="serving"} '
    count = lambda: float(embedder.get("/metrics").text.split(name)[1].split()[0])  # noqa: E731
    before = count()
    jax.jit(lambda x: x * 3.25)(np.arange(7, dtype=np.float32))
    assert count() > before


def test_it_is_healthy_before_it_is_ready(tmp_path):
    service = make_service(make_engine(tmp_path, "embedding"), ready=False)
    with served(service) as address, httpx.Client(base_url=address) as client:
        assert client.get("/health").status_code == 200
        for response in (client.get("/ready"), client.post("/embed", json={"inputs": "good"})):
            assert response.status_code == 503
            assert "the model is being compiled" in response.json()["error"]
            assert response.headers["retry-after"] == "5"
        ready = []
        service.engine.warmup_in_turn(lambda done, of: ready.append(service.engine._takes), 1)
        assert ready == [False, True, True, True]  # both alphas of one text, then of four
        service.ready = True
        assert client.get("/ready").status_code == 200
        post(client, "/embed", inputs=TEXTS)
