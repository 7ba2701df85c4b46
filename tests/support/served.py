"""Tiny models behind a real server, in a thread of this process."""

import contextlib
import threading
import time

import httpx
import tiny
import tiny_run

import latadj_jax
from latadj_jax.serving.http.metrics import Metrics
from latadj_jax.serving.http.server import make_server
from latadj_jax.serving.http.service import Service
from latadj_jax.serving.http.settings import ServerSettings
from latadj_jax.serving.policy import Policy

KEY = "a key of 32 letters or so"


def make_engine(folder, task: str, **options):
    model = tiny.make_model("bert", task, num_hidden_layers=1).replace(alpha=0.9)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    options = {"alphas": (None,), "buckets": (24,), "batch_sizes": (1, 4), **options}
    return latadj_jax.Engine(model, params, tokenizer, max_wait_ms=0, **options)


def make_service(engine, ready=True, **settings) -> Service:
    settings = ServerSettings(name="tiny", **settings)
    service = Service(engine, settings, Metrics())
    if ready:
        engine.warmup(repeats=1)
        service.ready = service.metrics.started = True
        service.starting = ""
    return service


class Held:
    """A server of an engine that runs nothing until it is let go."""

    def __init__(self, service, monkeypatch):
        self.open, self.running = threading.Event(), threading.Event()
        run = service.engine._programs.run

        def gated(shape, examples):
            self.running.set()
            assert self.open.wait(30)
            return run(shape, examples)

        monkeypatch.setattr(service.engine._programs, "run", gated)


@contextlib.contextmanager
def served(service: Service):
    """The address of its server, while it runs."""
    server = make_server(service)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def client_of(folder, task: str, policy: dict | None = None, **settings):
    """An httpx client of a server with such a model; `service` is an attribute of it."""
    engine = make_engine(folder, task, policy=Policy(**(policy or {})))
    service = make_service(engine, **settings)
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        client.service = service
        yield client
