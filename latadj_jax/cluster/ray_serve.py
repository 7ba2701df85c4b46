"""`latadj serve` as an application of Ray Serve: an engine in each replica, the same routes.

    serve run deploy/ray_serve.yaml

Two loops: within a replica alpha is chosen for each batch, at once; the number of replicas follows
the requests that are being worked on, within tens of seconds. A replica's controller sees all
requests that wait for it, since Ray hands them on at once (`max_ongoing_requests`); what it refuses
is a 429. Ray's own queue comes behind it, and is bounded, too.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

from ray import serve

from latadj_jax.cli import serve as command
from latadj_jax.serving.http.app import make_app

log = logging.getLogger(__name__)

PROG = "serve run"


@serve.deployment(
    name="latadj",
    max_ongoing_requests=256,
    max_queued_requests=256,
    health_check_period_s=5,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=30,
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 16},
)
@serve.ingress()
class Replica:
    """One engine. Ray sends requests to it as soon as every speed has one program."""

    def __init__(self, argv: list[str]):
        """
        Args:
          argv: of `latadj serve`.
        """
        command.log_to_stderr()
        self._service = command.make_service(command.parser(PROG).parse_args(argv))
        ready = threading.Event()
        self._starting = threading.Thread(target=self._start, args=(ready,), daemon=True)
        self._starting.start()
        ready.wait()
        self._check()

    def _start(self, ready: threading.Event) -> None:
        self._service.start(lambda done, of: self._service.ready and ready.set())
        ready.set()  # it failed, or is ready anyhow

    def __serve_build_asgi_app__(self):
        """What Ray takes the routes from."""
        return make_app(self._service)

    async def check_health(self) -> None:
        """Ray starts another replica in place of one where this raises."""
        self._check()
        await asyncio.sleep(0)  # so that a loop that hangs is seen

    def _check(self) -> None:
        if not self._service.ready:
            raise RuntimeError(f"the replica cannot serve: {self._service.starting}")


def application(args: Mapping[str, Any]) -> serve.Application:
    """What `serve run` and a YAML's `import_path` name.

    Args:
      args: `model`, and flags of `latadj serve` without their dashes, e.g. {"slo_ms": 100}; true
        for a flag that takes no value.

    Raises:
      ValueError: flags that there are not.
    """
    argv = argv_of(args)
    try:
        command.parser(PROG).parse_args(argv)
    except SystemExit as error:  # one sentence
        raise ValueError(str(error)) from None
    return Replica.bind(argv)


def argv_of(args: Mapping[str, Any]) -> list[str]:
    """As they would be written behind `latadj serve`."""
    rest = dict(args)
    if "model" not in rest:
        raise ValueError("args name no model; give a folder, a hub id, or package:NAME/path.")
    argv = [str(rest.pop("model"))]
    for name, value in rest.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is not False and value is not None:
            argv.append(f"--{name}={value}")
    return argv
