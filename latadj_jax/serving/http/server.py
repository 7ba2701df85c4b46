"""The server of a service: uvicorn's, which waits for no slow client for ever."""

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from latadj_jax.serving.http.app import make_app
from latadj_jax.serving.http.service import Service

KEEP_ALIVE_S = 75  # a connection without requests; longer than those of usual proxies
PATIENCE_S = 30  # for what is still being answered at the end


def make_server(service: Service, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """Not running yet; `run` is until it is asked to end. Port 0 is any free one."""

    class Connection(AutoHTTPProtocol):
        """One whose client does not send the head of a request in time is closed; uvicorn waits
        for it as long as the client likes. (How long a body takes, the guard says.)"""

        _timer = None

        def connection_made(self, transport):
            super().connection_made(transport)
            self._wait_for_head()

        def data_received(self, data: bytes):
            cycle, idle = self.cycle, self.cycle is None or self.cycle.response_complete
            super().data_received(data)
            if self.cycle is not cycle:
                self._stop_waiting()
            elif idle and self._timer is None:
                self._wait_for_head()

        def connection_lost(self, exc):
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait_for_head(self) -> None:
            self._timer = self.loop.call_later(service.settings.read_s, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    config = uvicorn.Config(
        make_app(service), host, port, http=Connection, log_level="warning", access_log=False,
        timeout_graceful_shutdown=PATIENCE_S, timeout_keep_alive=KEEP_ALIVE_S, backlog=2048,
    )  # fmt: skip
    return uvicorn.Server(config)
