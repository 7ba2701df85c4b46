"""`latadj serve` as an application of Ray Serve: an engine in each replica, the same routes.

    serve run deploy/ray_serve.yaml

Two loops: within a replica alpha is chosen for each batch, at once; the number of replicas follows
the requests that are being worked on, within tens of seconds. A replica's controller sees all
requests that wait for it, since Ray hands them on at once (`max_ongoing_requests`); what it refuses
is a 429. Ray's own queue comes behind it, and is bounded, too.
"""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from ray import serve

from latadj_jax.cli.programs_cache import keep_programs
from latadj_jax.cluster.arguments import argv_of, parsed


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
        keep_programs()
        from latadj_jax.cli.serve import log_to_stderr, make_service  # imports jax

        log_to_stderr()
        self._service = make_service(parsed(argv))
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
        from latadj_jax.serving.http.app import make_app

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
    parsed(argv)
    return Replica.bind(argv)
