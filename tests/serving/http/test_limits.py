"""What a server refuses: with a status, one sentence, and nothing else harmed."""

import dataclasses
import json
import logging
import re
import threading
import time

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import KEY, Held, client_of, make_engine, make_service, served

from latadj_jax.serving.http.settings import ServerSettings
from latadj_jax.serving.latencies import Latency


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    limits = {"max_texts": 4, "max_body_bytes": 2000}
    with client_of(tmp_path_factory.mktemp("embedding"), "embedding", **limits) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 422, "inputs is missing; it must be a text, or a list of texts"),
        ({"inputs": 3}, 422, "inputs must be a text, or a list of texts, or token ids of them."),
        ({"inputs": [1.5]}, 422, "inputs must be a text"),
        ({"inputs": []}, 422, "there are no texts"),
        ({"inputs": "good", "alpha": "fast"}, 422, 'alpha must be a number .* or "dense"'),
        ({"inputs": "good", "alpha": 0.5}, 422, "alpha 0.5 was not compiled"),
        ({"inputs": "good", "alpha": True}, 422, "alpha must be a number"),
        ({"inputs": "good", "speedup": -1}, 422, "speedup must be a number greater than 0"),
        ({"inputs": "good", "speedup": 99}, 422, "speedup 99 is out of reach"),
        ({"inputs": "good", "speedup": 1, "alpha": 0.9}, 422, "exclude each other"),
        ({"inputs": "good", "latency_ms": 0}, 422, "latency_ms must be a number greater than 0"),
        ({"inputs": "good", "prompt_name": "quary"}, 422, "prompt 'quary' is not the model's"),
        ({"inputs": [[1, 99999]]}, 422, "text 0 has input_ids 1..99999, the model knows 0..99"),
        ({"inputs": ["good", "word1 " * 40]}, 413, "text 1 has 42 tokens, the largest bucket 24"),
        ({"inputs": ["good"] * 5}, 413, "the request holds 5 texts; a request may have 4."),
        ({"inputs": "good " * 500}, 413, "the body has more than the 2000 bytes"),
        ("text", 422, "the body must be a JSON object"),
    ],
)
def test_bad_requests_get_one_sentence(embedder, body, status, sentence):
    response = embedder.post("/embed", json=body)
    assert response.status_code == status
    assert set(response.json()) == {"error", "error_type"}
    assert re.search(sentence, response.json()["error"])
    assert "\n" not in response.json()["error"]


def test_openai_s_route_has_openai_s_errors(embedder):
    error = embedder.post("/v1/embeddings", json={"input": "good", "dimensions": 7}).json()["error"]
    assert error["message"] == "dimensions must be 32, the width of the model's vectors."
    assert error["type"] == "validation"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b'{"inputs": NaN}', b"[" * 1500])
def test_what_is_no_json_gets_one_sentence(embedder, body):
    response = embedder.post("/embed", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert "body" in response.json()["error"] or "inputs" in response.json()["error"]


def test_other_paths_and_methods_get_one_sentence(embedder):
    assert embedder.get("/none").json()["error"] == "there is no such route; /docs lists them."
    assert embedder.get("/embed").status_code == 405


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXTLIKE = st.text() | st.lists(st.text() | st.integers() | st.lists(st.integers()), max_size=3)


@settings(max_examples=120)
@given(
    path=st.sampled_from(["/embed", "/v1/embeddings", "/", "/rerank", "/none"]),
    body=ANY_JSON
    | st.fixed_dictionaries(
        {},
        optional={
            name: ANY_JSON | TEXTLIKE
            for name in (
                "inputs", "input", "alpha", "speedup", "latency_ms", "truncate", "normalize",
                "prompt_name", "encoding_format", "dimensions",
            )
        },
    ),
)  # fmt: skip
def test_no_body_makes_the_server_fail(embedder, path, body):
    """Each gets an answer or a sentence: never a 500, never another kind of body."""
    content = json.dumps(body).encode()
    response = embedder.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 404, 413, 422)
    assert response.status_code == 200 or response.json()["error"]


def test_a_key_is_asked_for(tmp_path):
    with client_of(tmp_path, "embedding", api_key=KEY) as client:
        for key in (None, "Bearer", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", KEY, "Bearer \u00e9"):
            headers = {} if key is None else {"Authorization": key.encode()}
            response = client.post("/embed", json={"inputs": "good"}, headers=headers)
            assert response.status_code == 401, key
            assert "Authorization: Bearer" in response.json()["error"]
            assert response.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": f"Bearer {KEY}"}
        assert client.post("/embed", json={"inputs": "good"}, headers=headers).status_code == 200
        assert client.get("/info").status_code == 401
        assert client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_what_nobody_thought_of_is_a_500_that_tells_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("secret")

    with client_of(tmp_path, "embedding") as client:
        monkeypatch.setattr(client.service.engine, "job", fails)
        response = client.post("/embed", json={"inputs": "good"})
        assert response.status_code == 500
        assert response.json()["error"] == "the server failed; its log says how."


def test_a_server_that_ends_takes_no_more(tmp_path):
    with client_of(tmp_path, "embedding") as client:
        client.service.engine.close()
        response = client.post("/embed", json={"inputs": "good"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slo_ms": -1}, "slo_ms must be a number greater than 0"),
        ({"api_key": " "}, "api_key is empty"),
        ({"max_texts": 0}, "max_texts must be an integer of at least 1"),
    ],
)
def test_bad_settings_get_one_sentence(given, message):
    with pytest.raises(ValueError, match=message):
        ServerSettings(name="tiny", **given)


# ---- under load -------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path):
    """A service whose engine takes a text to last 1000 s, 500 s at 0.9: no machine is as slow."""
    service = make_service(make_engine(tmp_path, "embedding"))
    for shape in service.engine.latencies:
        ms = (1e6 if shape.alpha is None else 5e5) * shape.batch_size
        service.engine._submissions.live.add(shape, Latency(ms, ms))
    return service


def test_what_would_be_late_is_refused_with_the_time_to_come_back(slow, monkeypatch):
    held, found = Held(slow, monkeypatch), []
    with served(slow) as address, httpx.Client(base_url=address, timeout=30) as client:
        ask = lambda ms: client.post("/embed", json={"inputs": "good", "latency_ms": ms})  # noqa: E731
        impossible = ask(490_000)
        assert impossible.status_code == 422
        assert (
            "490000 ms are not enough: the text(s) take 500000.0 ms" in impossible.json()["error"]
        )
        first = threading.Thread(target=lambda: found.append(ask(2_000_000)))
        first.start()
        assert held.running.wait(30)
        refused = ask(1_100_000)
        assert refused.status_code == 429
        assert 300 < int(refused.headers["retry-after"]) < 1000
        assert "too much to do" in refused.json()["error"]
        held.open.set()
        first.join(30)
    assert found[0].status_code == 200


def test_no_more_requests_are_worked_on_than_it_may(tmp_path, monkeypatch):
    """Fails where the second is taken, or where the place of the first is not given back."""
    service = make_service(make_engine(tmp_path, "embedding"), max_requests=1)
    held, found = Held(service, monkeypatch), []
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        ask = lambda: client.post("/embed", json={"inputs": "good"})  # noqa: E731
        first = threading.Thread(target=lambda: found.append(ask()))
        first.start()
        assert held.running.wait(30)
        refused = ask()
        held.open.set()
        first.join(30)
        assert (found[0].status_code, refused.status_code, ask().status_code) == (200, 429, 200)
    assert refused.json()["error"] == "1 requests are worked on already; try later."
    assert refused.headers["retry-after"] == "1"


def test_what_is_too_late_at_its_turn_is_a_504(slow, monkeypatch):
    held, found = Held(slow, monkeypatch), []
    controller = slow.engine._submissions._controller
    monkeypatch.setattr(controller.live, "bound_ms", lambda *_: 1.0)
    monkeypatch.setattr(controller, "_least_ms", lambda *_: 1e6)
    with served(slow) as address, httpx.Client(base_url=address, timeout=30) as client:
        ask = lambda ms: found.append(  # noqa: E731
            client.post("/embed", json={"inputs": "good", "latency_ms": ms}).status_code
        )
        threads = [threading.Thread(target=ask, args=(ms,)) for ms in (2_000_000, 900_000)]
        threads[0].start()
        assert held.running.wait(30)
        threads[1].start()
        while slow.engine.waiting != (1, 3):
            threading.Event().wait(0.01)
        held.open.set()
        for thread in threads:
            thread.join(30)
    assert sorted(found) == [200, 504]


def test_what_is_late_before_it_is_read_is_not_read(tmp_path, monkeypatch):
    """A text before it keeps the tokenizer busy."""
    service, read = make_service(make_engine(tmp_path, "embedding")), []
    job, go_on = service.engine.job, threading.Event()

    def slowly(texts, *given):
        made = job(texts, *given)

        def encode():
            read.append(texts)
            assert go_on.wait(60)
            return made.encode()

        return dataclasses.replace(made, encode=encode)

    monkeypatch.setattr(service.engine, "job", slowly)
    with served(service) as address:
        statuses = {}

        def ask(text, body):
            response = httpx.post(f"{address}/embed", json={"inputs": text, **body}, timeout=60)
            statuses[text] = response.status_code

        asked = (("good", {}), ("bad", {"latency_ms": 50}))
        threads = [threading.Thread(target=ask, args=one) for one in asked]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while service._at_once < number and thread.is_alive():
                time.sleep(0.01)
        time.sleep(0.1)
        go_on.set()
        for thread in threads:
            thread.join(60)
    assert statuses == {"good": 200, "bad": 504}
    assert read == [["good"]]


def test_a_late_answer_says_so_and_what_follows_a_batch_is_left_free(tmp_path, monkeypatch):
    """The answer takes 1 s after its batch; fails where only the batch is thought of."""
    service, within_ms = make_service(make_engine(tmp_path, "embedding")), []
    job, submit = service.engine.job, service.engine.submit_encoded

    def slowly(*given):
        return dataclasses.replace(job(*given), answer=lambda rows: time.sleep(1.0) or rows)

    def submitted(examples, **asked):
        within_ms.append(asked["latency_ms"])
        return submit(examples, **asked)

    monkeypatch.setattr(service.engine, "job", slowly)
    monkeypatch.setattr(service.engine, "submit_encoded", submitted)
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(2):
            response = client.post("/embed", json={"inputs": "good", "latency_ms": 1000})
            assert float(response.headers["x-latadj-late-ms"]) > 0
        line = "latadj_late_requests_total 2.0"
        assert line in client.get("/metrics").text.split("\n")
    assert within_ms[0] == 1000
    assert 400 < within_ms[1] < 950


def test_who_is_being_answered_is_answered_when_the_server_ends(slow, monkeypatch):
    held, found = Held(slow, monkeypatch), []
    with served(slow) as address:
        ask = lambda: found.append(  # noqa: E731
            httpx.post(f"{address}/embed", json={"inputs": "good"}, timeout=30).status_code
        )
        thread = threading.Thread(target=ask)
        thread.start()
        assert held.running.wait(30)
        threading.Timer(0.3, held.open.set).start()
    thread.join(30)
    assert found == [200]
    with pytest.raises(RuntimeError, match="closed"):
        slow.engine.submit("good")


def test_the_log_holds_no_text(embedder, caplog):
    with caplog.at_level(logging.INFO, "latadj.access"):
        for path in ("/embed", "/none/secret", "/embed?text=secret"):
            embedder.post(path, json={"inputs": "secret word1"}, headers={"x-own": "secret"})
            embedder.post(path, json={"inputs": {"secret": "secret"}})
    lines = [json.loads(record.message) for record in caplog.records]
    assert len(lines) == 6
    assert {"method", "path", "status", "ms", "alpha", "waited_ms", "ran_ms"} <= {*lines[0]}
    assert "secret" not in caplog.text
