"""Around all routes: who may ask, how much, and what is written down of it, without any text."""

import json
import logging
import secrets

from latadj_jax.serving.http.incoming import Incoming, too_large, unless_gone
from latadj_jax.serving.http.metrics import Metrics
from latadj_jax.serving.http.problems import GONE, KINDS, Problem, response_of
from latadj_jax.serving.http.service import now_s
from latadj_jax.serving.http.settings import ServerSettings

log = logging.getLogger("latadj.access")

OPEN = ("/health", "/ready", "/metrics", "/docs", "/openapi.json")  # without the key


class Guard:
    """An ASGI application around another."""

    def __init__(self, app, settings: ServerSettings, metrics: Metrics, paths: set[str]):
        """
        Args:
          paths: the routes' own; others are written down as "other".
        """
        self._app, self._settings, self._metrics, self._paths = app, settings, metrics, paths

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start_s, said = now_s(), {}
        scope.setdefault("state", {})["arrived_s"] = start_s

        async def saying(message):
            if message["type"] == "http.response.start":
                said["status"] = message["status"]
                said["headers"] = {name: value for name, value in message["headers"]}
            await send(message)

        try:
            if not await self._guarded(scope, receive, saying, said):
                said["status"] = GONE
        finally:
            self._write(scope, said, now_s() - start_s)

    async def _guarded(self, scope, receive, send, said) -> bool:
        """Whether it was answered, or refused; False if the client went before that."""
        headers = dict(scope["headers"])
        try:
            self._check_key(scope, headers)
            self._check_size(int(headers.get(b"content-length", b"0") or 0))
        except (Problem, ValueError) as error:
            problem = error if isinstance(error, Problem) else Problem(400, "bad content-length.")
            await response_of(problem, scope["path"])(scope, receive, send)
            return True
        incoming = Incoming(receive, self._settings.max_body_bytes, self._settings.read_s)

        async def unless_stopped(message):
            if incoming.problem is None:
                await send(message)

        answering = self._app(scope, incoming, unless_stopped)
        answered = await unless_gone(answering, incoming, lambda: "status" in said)
        if answered and incoming.problem is not None:
            await response_of(incoming.problem, scope["path"])(scope, receive, send)
        return answered

    def _check_key(self, scope, headers: dict[bytes, bytes]) -> None:
        key = self._settings.api_key
        if key is None or scope["path"] in OPEN or _is_page(scope):
            return
        given = headers.get(b"authorization", b"")
        if not secrets.compare_digest(given, b"Bearer " + key.encode()):
            raise Problem(401, "the key is missing or wrong; send it as Authorization: Bearer KEY.")

    def _route(self, scope) -> str:
        """As metrics and the log name it."""
        if _is_page(scope):
            return "page"
        return scope["path"] if scope["path"] in self._paths else "other"

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_body_bytes:
            raise too_large(self._settings.max_body_bytes)

    def _write(self, scope, said, seconds: float) -> None:
        path = self._route(scope)
        status = said.get("status", 500)
        self._metrics.requests.labels(path, str(status)).inc()
        if status < 400:
            self._metrics.seconds.labels(path).observe(seconds)
        else:
            self._metrics.refusals.labels(KINDS.get(status, "other")).inc()
        own = {
            name.decode().removeprefix("x-latadj-").replace("-", "_"): value.decode()
            for name, value in said.get("headers", {}).items()
            if name.startswith(b"x-latadj-")
        }
        line = {"method": scope["method"] if path != "other" else "", "path": path}
        line |= {"status": status, "ms": round(1e3 * seconds, 1), **own}
        log.info("%s", json.dumps(line))


def _is_page(scope) -> bool:
    """It needs no key, but what it asks for does; a POST is a route of the model's."""
    return scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
