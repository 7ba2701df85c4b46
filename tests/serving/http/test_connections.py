"""Clients that go, that are slow, that send without end; and what the others notice of them."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import threading
import time

import httpx
import pytest
from served import Held, client_of, make_engine, make_service, served

from latadj_jax.serving.http.incoming import Incoming, unless_gone


def connected(address: str) -> socket.socket:
    host, port = str(address).removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(length: str, path="/embed") -> bytes:
    kind = "Content-Type: application/json"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\n{length}\r\n\r\n".encode()


def request_of(**body) -> bytes:
    content = json.dumps(body).encode()
    return head(f"Content-Length: {len(content)}") + content


def until(true) -> None:
    end_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def gone_of(client) -> float:
    lines = client.get("/metrics").text.split("\n")
    name = 'latadj_refusals_total{reason="gone"}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_what_a_client_has_given_up_on_is_not_computed(tmp_path, monkeypatch):
    """Three go while a batch runs; the one that stays is answered. Fails where the three are run,
    where they keep their places in the queue, or where the fourth is cancelled with them."""
    service = make_service(make_engine(tmp_path, "embedding"))
    held, run, texts = Held(service, monkeypatch), service.engine._programs.run, []

    def watched(shape, examples):
        texts.append(len(examples))
        return run(shape, examples)

    monkeypatch.setattr(service.engine._programs, "run", watched)
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        clients = []
        for number in range(5):
            clients.append(connected(address))
            clients[-1].sendall(request_of(inputs="good word1"))
            if number == 0:
                assert held.running.wait(30)
            until(lambda number=number: service.engine.waiting[0] == number)
        for one in clients[1:4]:
            one.close()
        until(lambda: service.engine.waiting == (1, 4))
        assert gone_of(client) == 3
        lines = client.get("/metrics").text.split("\n")
        assert {"latadj_queue_texts 1.0", "latadj_queue_tokens 4.0"} <= {*lines}
        held.open.set()
        for one in (clients[0], clients[4]):
            assert one.recv(15) == b"HTTP/1.1 200 OK"
            one.close()
        until(lambda: service._at_once == 0)
    assert texts == [1, 1]


def test_who_goes_before_the_text_is_read_is_not_queued(tmp_path, monkeypatch):
    """The first goes while its text is read, the second while it waits to be read."""
    service, reading, go_on = (
        make_service(make_engine(tmp_path, "embedding")),
        [],
        threading.Event(),
    )
    job = service.engine.job

    def slowly(texts, *given):
        made = job(texts, *given)

        def encode():
            reading.append(texts)
            assert go_on.wait(30)
            return made.encode()

        return dataclasses.replace(made, encode=encode)

    monkeypatch.setattr(service.engine, "job", slowly)
    held = Held(service, monkeypatch)
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        clients = []
        for number in (1, 2):
            clients.append(connected(address))
            clients[-1].sendall(request_of(inputs=f"word{number}"))
            until(lambda number=number: service._at_once == number)
        until(lambda: reading)
        for one in clients:
            one.close()
        until(lambda: service._at_once == 0)
        go_on.set()
        held.open.set()
        assert client.post("/embed", json={"inputs": "good"}).status_code == 200
        assert gone_of(client) == 2
        until(lambda: service.engine.waiting == (0, 0))
    assert reading == [["word1"], ["good"]]
    assert service.metrics.registry.get_sample_value("latadj_batch_texts_count") == 1


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A server that reads 2000 bytes, within one second."""
    limits = {"max_body_bytes": 2000, "read_s": 1.0}
    with client_of(tmp_path_factory.mktemp("embedding"), "embedding", **limits) as client:
        yield client


def test_a_body_in_pieces_is_not_read_after_its_limit(limited):
    """The rest never comes: fails where the server waits for it before it refuses."""
    with connected(limited.base_url) as one:
        one.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(5):
            one.sendall(b"1f4\r\n" + b"[" * 500 + b"\r\n")
        answer = one.recv(1000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"the body has more than the 2000 bytes" in answer


def test_a_body_that_says_it_is_too_large_is_not_read(limited):
    with connected(limited.base_url) as one:
        one.sendall(head("Content-Length: 2001"))
        assert one.recv(1000).startswith(b"HTTP/1.1 413")


def test_an_answer_that_has_begun_is_ended_although_the_client_has_gone():
    """Fails where it is given up: what was sent would be written down as not sent."""

    async def disconnected():
        return {"type": "http.disconnect"}

    async def answer(incoming, ended):
        await incoming()
        await asyncio.sleep(0.05)
        ended.append(True)

    async def both():
        found = []
        for has_begun in (True, False):
            incoming = Incoming(disconnected, 10, 10.0)
            found.append(await unless_gone(answer(incoming, found), incoming, lambda: has_begun))  # noqa: B023
        return found

    assert asyncio.run(both()) == [True, True, False]


def test_a_body_in_pieces_within_its_limit_is_read_to_its_end(limited):
    content = json.dumps({"inputs": ["good", "bad"], "pad": "x" * 1900}).encode()
    pieces = (content[n : n + 100] for n in range(0, len(content), 100))
    headers = {"Content-Type": "application/json"}
    response = limited.post("/embed", content=pieces, headers=headers)
    assert (response.status_code, len(response.json())) == (200, 2)


@pytest.mark.parametrize("sent", [b"", b"POST /emb", head("Content-Length: 9")[:-2]])
def test_a_head_that_does_not_come_closes_the_connection(limited, sent):
    with connected(limited.base_url) as one:
        one.sendall(sent)
        start_s = time.monotonic()
        assert one.recv(100) == b""
    assert 0.5 < time.monotonic() - start_s < 20


def test_a_second_head_that_does_not_come_closes_it_too(limited):
    with connected(limited.base_url) as one:
        one.sendall(request_of(inputs="good"))
        answer = one.recv(20_000)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"]]")
        one.sendall(b"POST /emb")
        assert one.recv(100) == b""


def test_a_body_that_does_not_come_is_a_408(limited):
    with connected(limited.base_url) as one:
        one.sendall(head("Content-Length: 100") + b"{")
        answer = one.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body did not come within 1 s." in answer


def test_slow_clients_do_not_stop_others(tmp_path):
    """Three hundred that send a byte now and then, in the head and in the body."""
    with client_of(tmp_path, "embedding", read_s=60.0) as client, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(client.base_url)) for _ in range(300)]
        for number, one in enumerate(slow):
            one.sendall(b"POST /embed" if number % 2 else head("Content-Length: 100") + b"{")
        for _ in range(5):
            for one in slow:
                one.sendall(b"x")
            response = client.post("/embed", json={"inputs": ["good", "bad"]}, timeout=10)
            assert (response.status_code, len(response.json())) == (200, 2)
