"""Being asked to stop: SIGTERM ends a run after the step it is in, which is saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


class Stopped(SystemExit):
    """A run that saved and ended because it was asked to; the exit status is that of SIGTERM."""

    def __init__(self, message: str):
        super().__init__(128 + signal.SIGTERM)
        self.message = message


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Gives a function to call after each step, which says whether to save and end now.

    With several processes they agree on a step (jax's preemption service hears SIGTERM in any of
    them). Outside the main thread nothing can be heard.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    try:
        yield lambda step: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
