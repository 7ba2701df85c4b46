"""Single requests that come at once, run together: a thread that collects them for a moment."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future


class DynamicBatcher:
    """Collects requests until there are `most`, or `wait_ms` after the first, and runs them.

    A request has a key, e.g. the alpha it asks for: those of one key run together.
    """

    def __init__(self, run: Callable[[object, Sequence], Sequence], most: int, wait_ms: float):
        """`run(key, requests)` gives the results of all requests, in order."""
        self._run, self._most, self._wait_s = run, most, wait_ms / 1e3
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="dynamic-batching", daemon=True)
        self._thread.start()

    def submit(self, key, request) -> Future:
        """The future result of one request; its error, if it had one, is raised by `result()`."""
        future: Future = Future()
        with self._lock:  # so that nothing comes after the end
            if self._closed:
                raise RuntimeError("the engine is closed; it takes no more requests.")
            self._waiting.put((key, request, future))
        return future

    def close(self) -> None:
        """Answers what was submitted, then stops."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        last = False
        while not last:
            collected, last = self._collect()
            for key in dict.fromkeys(key for key, _, _ in collected):
                mine = [(request, f) for k, request, f in collected if k == key]
                self._answer(key, [pair for pair in mine if pair[1].set_running_or_notify_cancel()])

    def _collect(self) -> tuple[list, bool]:
        """The next requests, and whether they are the last."""
        first = self._waiting.get()
        if first is None:
            return [], True
        collected, end = [first], time.monotonic() + self._wait_s
        while len(collected) < self._most:
            try:
                item = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return collected, True
            collected.append(item)
        return collected, False

    def _answer(self, key, pairs: list[tuple[object, Future]]) -> None:
        if not pairs:
            return
        try:
            results = self._run(key, [request for request, _ in pairs])
        except Exception as error:  # the callers' to handle; this thread serves on
            for _, future in pairs:
                future.set_exception(error)
            return
        for (_, future), result in zip(pairs, results, strict=True):
            future.set_result(result)
