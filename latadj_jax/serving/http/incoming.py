"""What a client sends: how much, how slowly, and whether it is still there."""

import asyncio
from collections.abc import Callable, Coroutine

from latadj_jax.serving.http.problems import Problem


class Incoming:
    """An ASGI `receive` around another, which stops reading a body that is too large or too slow.

    Attributes:
      problem: why it stopped.
    """

    def __init__(self, receive, most_bytes: int, within_s: float):
        self._receive, self._most = receive, most_bytes
        self._size, self._within_s = 0, within_s
        self._until_s = asyncio.get_running_loop().time() + within_s
        self._whole = asyncio.Event()
        self.problem: Problem | None = None

    async def __call__(self) -> dict:
        if self._whole.is_set():
            await self.gone()
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout_at(self._until_s):
                message = await self._receive()
        except TimeoutError:
            return self._stop(Problem(408, f"the body did not come within {self._within_s:g} s."))
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            return self._stop(too_large(self._most))
        if not message.get("more_body"):
            self._whole.set()
        return message

    async def gone(self) -> None:
        """Waits until the client is not there any more, or has its answer."""
        await self._whole.wait()  # before that only the body is there to be received
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _stop(self, problem: Problem) -> dict:
        """For the application the body ends here."""
        self.problem = problem
        self._whole.set()
        return {"type": "http.request", "body": b"", "more_body": False}


def too_large(most_bytes: int) -> Problem:
    return Problem(413, f"the body has more than the {most_bytes} bytes that a request may have.")


async def unless_gone(
    answering: Coroutine, incoming: Incoming, has_begun: Callable[[], bool]
) -> bool:
    """Whether the answer was given; it is given up if the client goes before the answer begins."""
    answerer, given_up = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal given_up
        await incoming.gone()
        if not has_begun():
            given_up = answerer.cancel()

    watching = asyncio.create_task(watch())
    try:
        await answering
        return True
    except asyncio.CancelledError:
        if not given_up:  # it was somebody else
            raise
        answerer.uncancel()
        return False
    finally:
        watching.cancel()
