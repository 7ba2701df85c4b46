"""What stands between the routes and the engine: limits, deadlines, and how it was served."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from latadj_jax.elimination.alpha import alpha_name
from latadj_jax.errors import TooLate
from latadj_jax.serving.backlog import Served
from latadj_jax.serving.budgets import OWN
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.http.bodies import Body
from latadj_jax.serving.http.metrics import Metrics
from latadj_jax.serving.http.problems import Problem
from latadj_jax.serving.http.settings import ServerSettings
from latadj_jax.serving.job import Job

log = logging.getLogger("latadj")


class Done(NamedTuple):
    """An answer, the tokens that were read for it, how each of its texts was served, and how
    much later than its deadline it was ready to be sent."""

    answer: Any
    tokens: int
    served: Sequence[Served]
    late_ms: float = 0.0

    @property
    def headers(self) -> dict[str, str]:
        """Of several texts: all alphas, the speedup of all together, the longest times."""
        if not self.served:
            return {}
        alphas = dict.fromkeys(alpha_name(one.alpha) for one in self.served)
        speedup = len(self.served) / sum(1 / one.speedup for one in self.served)
        headers = {
            "x-latadj-alpha": ",".join(alphas),
            "x-latadj-speedup": f"{speedup:.2f}",
            "x-latadj-waited-ms": f"{max(one.waited_ms for one in self.served):.1f}",
            "x-latadj-ran-ms": f"{max(one.ran_ms for one in self.served):.1f}",
        }
        return headers | ({"x-latadj-late-ms": f"{self.late_ms:.1f}"} if self.late_ms else {})


AFTER_GAIN = 0.1  # of each request, in what is expected to follow a batch
AFTER_SHARE = 0.5  # of a request's time that is left for it at most


class Service:
    """One engine behind all routes.

    Attributes:
      ready: whether the engine can serve.
      starting: what is being waited for until then.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, metrics: Metrics):
        self.engine, self.settings, self.metrics = engine, settings, metrics
        self.ready, self.starting = False, "the model is being compiled"
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")
        self._at_once = 0
        self._after_ms = 0.0  # from the end of a batch until its answers are ready
        metrics.watch(engine)

    def start(self, told: Callable[[int, int], None] = lambda done, of: None) -> bool:
        """Compiles, and is ready as soon as every speed has one program; whether that went well.

        Args:
          told: is called after each program with how many there are, and of how many.
        """

        def on_program(done: int, of: int) -> None:
            self.ready = done >= len(self.engine.alphas)
            self.starting = f"the model is being compiled, {done} of {of} programs so far"
            if done == of:
                self.starting, self.metrics.started = "", True
            told(done, of)

        try:
            self.engine.warmup_in_turn(on_program)
        except Exception as error:
            log.exception("The model could not be compiled.")
            self.ready, self.starting = False, str(error)
            return False
        return True

    def close(self) -> None:
        """Answers what was asked, then ends the threads."""
        self.engine.close()
        self._encoding.shutdown()
        self.metrics.close()

    def check_number(self, texts: Sequence, called: str) -> None:
        """Raises Problem for more texts than a request may have."""
        most = self.settings.max_texts
        if len(texts) > most:
            raise Problem(413, f"{called} holds {len(texts)} texts; a request may have {most}.")

    def check_ready(self) -> None:
        if not self.ready:
            raise Problem(503, f"{self.starting}; /ready says when it can serve.", 5.0)

    async def run(self, make: Callable[[], Job], body: Body, arrived_s: float) -> Done:
        """Asks the engine.

        Args:
          make: the question; it may raise a ValueError.
        """
        self.check_ready()
        if self._at_once >= self.settings.max_requests:
            raise Problem(429, f"{self._at_once} requests are worked on already; try later.", 1.0)
        self._at_once += 1
        try:
            return await self._run(make(), self._asked(body), arrived_s)
        finally:
            self._at_once -= 1

    def _asked(self, body: Body) -> dict:
        """As the engine has it."""
        if body.alpha is not None and body.speedup is not None:
            raise ValueError("alpha and speedup exclude each other; give one.")
        asked = {"latency_ms": body.latency_ms or self.settings.slo_ms, "speedup": body.speedup}
        asked["alpha"] = {None: OWN, "dense": None}.get(body.alpha, body.alpha)
        if isinstance(body.alpha, float):  # headers and /info name six digits of it
            names = {alpha_name(alpha): alpha for alpha in self.engine.alphas}
            asked["alpha"] = names.get(alpha_name(body.alpha), body.alpha)
        return asked

    async def _run(self, job: Job, asked: dict, arrived_s: float) -> Done:
        loop, engine, latency_ms = asyncio.get_running_loop(), self.engine, asked["latency_ms"]
        if latency_ms is not None:  # the engine's deadline is the end of a batch
            after_ms = min(self._after_ms, AFTER_SHARE * latency_ms)
            asked = {**asked, "latency_ms": latency_ms - after_ms}

        def submit():
            if latency_ms is not None and 1e3 * (now_s() - arrived_s) > latency_ms:
                raise TooLate("the deadline passed before the text could be read; not computed.")
            examples = engine.encode(job.encode)
            tokens = sum(len(example["input_ids"]) for example in examples)
            return tokens, engine.submit_encoded(examples, **asked, arrived_s=arrived_s)

        submitting = self._encoding.submit(submit)
        try:
            tokens, replies = await asyncio.wrap_future(submitting)
        except asyncio.CancelledError:  # nobody waits for it any more
            submitting.add_done_callback(_give_up)
            raise
        try:
            rows = await asyncio.gather(*map(asyncio.wrap_future, replies))
        finally:
            for reply in replies:  # those that are not needed any more; done ones stay as they are
                reply.cancel()
        served = [reply.served for reply in replies]
        for one in served:
            self.metrics.waited.observe(one.waited_ms / 1e3)
        if engine.model.record.per_token:  # takes a while, and the tokenizer
            answer = await loop.run_in_executor(self._encoding, job.answer, rows)
        else:
            width = engine.model.row_width
            answer = job.answer(np.stack(rows) if rows else np.empty((0, width), np.float32))
        return Done(answer, tokens, served, self._late_ms(served, latency_ms, arrived_s))

    def _late_ms(self, served: Sequence[Served], latency_ms, arrived_s: float) -> float:
        """Follows what it takes after a batch; how much over its time a request is now."""
        took_ms = 1e3 * (now_s() - arrived_s)
        if served:
            ended_ms = max(one.waited_ms + one.ran_ms for one in served)
            self._after_ms += AFTER_GAIN * (took_ms - ended_ms - self._after_ms)
        late_ms = 0.0 if latency_ms is None else max(0.0, took_ms - latency_ms)
        self.metrics.late.inc(late_ms > 0)
        return late_ms


def _give_up(submitting: Future) -> None:
    """What was submitted is not computed, unless it runs already."""
    if not submitting.cancelled() and submitting.exception() is None:
        for reply in submitting.result()[1]:
            reply.cancel()


def now_s() -> float:
    """On the engine's clock."""
    return time.perf_counter()
