"""The thread that runs what was submitted, batch by batch, as a controller chooses them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from latadj_jax.errors import TooLate
from latadj_jax.serving.backlog import Request, Served
from latadj_jax.serving.controller import Batch, Controller

log = logging.getLogger(__name__)


class Dispatcher:
    """Answers every request that it takes: with its row, with an error, or that it is too late."""

    def __init__(
        self,
        controller: Controller,
        run: Callable[[Batch], Sequence],
        speedup_of: Callable[[Request, float | None], float],
        max_wait_ms: float,
        on_batch: Callable[[Batch, float], None] = lambda batch, ran_ms: None,
    ):
        """
        Args:
          run: gives the rows of a batch, in order.
          speedup_of: what is expected for a request at an alpha.
          max_wait_ms: how long a request waits for company, if nothing runs.
          on_batch: is told of each batch and its milliseconds.
        """
        self.controller, self._run, self._speedup_of = controller, run, speedup_of
        self._max_wait_s, self._on_batch = max_wait_ms / 1e3, on_batch
        self._closed = False
        self._free_s = 0.0  # since when there has been nothing to do but the next batch
        self._changed = threading.Condition()  # of the controller and `_closed`
        self._thread = threading.Thread(target=self._serve, name="dispatcher", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request]) -> None:
        """All of them are going to be answered, by their `reply`.

        Raises:
          Overloaded: none of them is; see `Controller.admit`.
        """
        with self._changed:  # so that nothing comes after the end
            if self._closed:
                raise RuntimeError("the engine is closed; it takes no more requests.")
            self.controller.drop_cancelled()
            self.controller.admit(requests, time.perf_counter())
            self._changed.notify()

    def waiting(self) -> tuple[int, int]:
        """Requests that wait, and their tokens."""
        with self._changed:
            self.controller.drop_cancelled()
            return len(self.controller.waiting), self.controller.waiting_tokens

    def close(self) -> None:
        """Answers what was submitted, then stops."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # ---- in the thread --------------------------------------------------------------------

    def _serve(self) -> None:
        while self._wait():
            try:
                late, batch = self._take()
            except Exception as error:  # a mistake of the controller's: nobody waits for ever
                self._fail_all(error)
                continue
            for request in late:
                _refuse(request, TooLate("the deadline could not be met any more; not computed."))
            if batch is not None:
                self._answer(batch)

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        controller = self.controller
        with self._changed:
            if not controller.waiting:
                self._changed.wait_for(lambda: controller.waiting or self._closed)
                self._free_s = time.perf_counter()
            if controller.waiting:
                since_s = min(request.arrived_s for request in controller.waiting)
                timeout_s = since_s + self._max_wait_s - time.perf_counter()
                if timeout_s > 0:
                    self._changed.wait_for(
                        lambda: self._closed or len(controller.waiting) >= controller.sizes[-1],
                        timeout_s,
                    )
                    self._free_s = time.perf_counter()
            return bool(controller.waiting)

    def _take(self) -> tuple[list[Request], Batch | None]:
        controller = self.controller
        with self._changed:
            controller.drop_cancelled()
            now_s = time.perf_counter()
            late = controller.drop_late(now_s)
            return late, controller.take(now_s) if controller.waiting else None

    def _answer(self, batch: Batch) -> None:
        wanted = [r for r in batch.requests if r.reply.set_running_or_notify_cancel()]
        start_s = time.perf_counter()
        try:
            rows = dict(zip(batch.requests, self._run(batch), strict=True)) if wanted else {}
            speedups = [self._speedup_of(request, batch.shape.alpha) for request in wanted]
        except Exception as error:  # the callers' to handle; this thread serves on
            with self._changed:
                self.controller.failed()
                self._free_s = time.perf_counter()
            for request in wanted:
                request.reply.set_exception(error)
            return
        end_s = time.perf_counter()
        ran_ms = 1e3 * (end_s - start_s)
        with self._changed:
            if wanted:
                # Choosing it counts, too, and answering the batch before it: what waits has to
                # wait for all of that.
                self.controller.finished(batch, 1e3 * (end_s - self._free_s), end_s)
            else:
                self.controller.failed()
            self._free_s = end_s
        for request, speedup in zip(wanted, speedups, strict=True):
            request.reply.served = Served(
                batch.shape.alpha,
                speedup,
                waited_ms=1e3 * (start_s - request.arrived_s),
                ran_ms=ran_ms,
                late_ms=max(0.0, 1e3 * (end_s - request.deadline_s)),
            )
            request.reply.set_result(rows[request])
        if wanted:
            self._tell(batch, ran_ms)

    def _tell(self, batch: Batch, ran_ms: float) -> None:
        try:
            self._on_batch(batch, ran_ms)
        except Exception:  # who watches must not end what is watched
            log.exception("What was to be told of each batch failed.")

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            waiting, self.controller.waiting = self.controller.waiting, []
        for request in waiting:
            _refuse(request, error)


def _refuse(request: Request, error: Exception) -> None:
    if request.reply.set_running_or_notify_cancel():
        request.reply.set_exception(error)
