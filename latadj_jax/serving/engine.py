"""Serving: texts of any lengths, at an alpha, at a speedup, or within a number of milliseconds.

    engine = latadj_jax.Engine(model, params, tokenizer, alphas=(None, 0.9, 0.8))
    engine.warmup()
    logits_NC = engine(texts, latency_ms=20)

Everything is compiled at `warmup`, and nothing after it, unless `compile_as_needed` says so.
"""

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latadj_jax.elimination.alpha import alphas_of, slowest_first
from latadj_jax.elimination.strategies import find
from latadj_jax.model.buckets import serving_buckets, sizes_of
from latadj_jax.model.model import Model, check_params
from latadj_jax.serving import answers, ranking, tags
from latadj_jax.serving.backlog import Reply
from latadj_jax.serving.batches import batches, run_batches
from latadj_jax.serving.budgets import OWN, Asked, check_asked
from latadj_jax.serving.controller import Batch
from latadj_jax.serving.job import Job
from latadj_jax.serving.latencies import Latency
from latadj_jax.serving.policy import Policy
from latadj_jax.serving.programs import Programs, Shape
from latadj_jax.serving.requests import encode_requests
from latadj_jax.serving.runtime import Runtime
from latadj_jax.serving.submissions import Submissions
from latadj_jax.serving.warmup import Warmup
from latadj_jax.tasks.registry import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Engine:
    """Serves a model in this process: any number of texts of any lengths, at the speed asked for.

    It pads texts into a few shapes, compiles one program per (bucket, batch size, alpha) at
    `warmup`, and nothing after it. Threads may call it at the same time.
    """

    def __init__(
        self,
        model: Model,
        params,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        alphas: Sequence[float | None] = (),
        buckets: Sequence[int] = (),
        batch_sizes: Sequence[int] = (1, 8, 32),
        truncate: bool = False,
        latency_file: str | Path | None = None,
        max_wait_ms: float = 2.0,
        policy: Policy | None = None,
    ):
        """Checks its arguments and compiles nothing.

        Args:
          alphas: the alphas to choose from; None is dense. The model's own is always among them.
          buckets: padded lengths; by default 16, 24, 32, 48, ... up to 128, or to what the model
            reads.
          batch_sizes: batch sizes to compile for; 1 is always among them.
          truncate: whether texts longer than the largest bucket are cut instead of refused.
          latency_file: a file that keeps the measured latencies; without one they are measured at
            each warm-up.
          max_wait_ms: how long `submit` lets a request wait for others while nothing runs.
          policy: how `submit` serves requests with a deadline, and how many may wait.

        Raises:
          ValueError: an argument that cannot work.
        """
        check_served(model)
        check_params(model, params)
        programs = Programs(model, params, model.inputs_of(tokenizer))
        self._set_up(
            model, programs, tokenizer, alphas=alphas, buckets=buckets, batch_sizes=batch_sizes,
            truncate=truncate, latency_file=latency_file, max_wait_ms=max_wait_ms, policy=policy,
        )  # fmt: skip

    def _set_up(
        self,
        model: Model,
        programs: Runtime,
        tokenizer,
        *,
        alphas: Sequence[float | None],
        buckets: Sequence[int],
        batch_sizes: Sequence[int] = (1, 8, 32),
        truncate: bool = False,
        latency_file: str | Path | None = None,
        max_wait_ms: float = 2.0,
        policy: Policy | None = None,
    ) -> None:
        """What every engine has, whatever its programs are made of."""
        check_served(model)
        self.alphas = slowest_first((model.alpha, *alphas_of(alphas)))
        self.buckets = serving_buckets(buckets, model.config.max_positions)
        self.batch_sizes = tuple(sorted({1, *sizes_of("batch_sizes", batch_sizes)}))
        self.model, self.truncate = model, truncate
        self.tokenizer = copy.deepcopy(tokenizer)  # encoding changes it: others may use theirs
        self._programs = programs
        self._latencies: dict[Shape, Latency] = {}
        self._takes = False  # what is submitted
        self._as_needed: bool | None = None  # whether it shows what it compiles; None: at warm-up
        self._tokenizing = threading.Lock()  # a fast tokenizer is not to be shared
        self.policy = policy or Policy()
        self._submissions = Submissions(
            model, self._programs, self.alphas, self.buckets, self.batch_sizes, self.policy,
            max_wait_ms,
        )  # fmt: skip
        shapes = [
            Shape(length, size, alpha)
            for length in self.buckets for size in self.batch_sizes for alpha in self.alphas
        ]  # fmt: skip
        self._warmup = Warmup(programs, shapes, self._submissions.live, latency_file)

    # ---- before serving -------------------------------------------------------------------

    def warmup(self, repeats: int = 20, progress: bool = False) -> "Engine":
        """Compiles every program and measures it, unless this machine's times are on file."""
        self._latencies = self._warmup.all_at_once(repeats, progress)
        self._takes = True
        return self

    def compile_as_needed(self, progress: bool = False) -> "Engine":
        """In place of `warmup`: compiles a program when a call first needs it.

        It is for work without deadlines, such as a file of texts. `latency_ms` and `submit` need
        the times of `warmup`.
        """
        self._as_needed = progress
        return self

    def warmup_in_turn(
        self,
        on_program: Callable[[int, int], None] = lambda done, of: None,
        repeats: int = 5,
    ) -> None:
        """The same, one program after the other; after a few of them `submit` can be used.

        To be run in a thread of its own. Where a process has no room for all programs, `submit`
        goes on with those that there are.

        Args:
          on_program: is told after each how many there are, and of how many.
        """

        def told(done: int, of: int) -> None:
            self._takes = done >= len(self.alphas)  # each has the largest bucket
            on_program(done, of)

        self._latencies = self._warmup.in_turn(repeats, told)

    @property
    def keys(self) -> tuple[str, ...]:
        """The inputs of a text, beside the mask."""
        return self._programs.keys

    @property
    def compilations(self) -> int:
        """Programs compiled so far: after `warmup` buckets x batch sizes x alphas, or less where
        batch sizes share those of their parts (on a CPU)."""
        return len(self._programs)

    @property
    def latencies(self) -> Mapping[Shape, Latency]:
        """The measured times of each program; empty before `warmup`."""
        return dict(self._latencies)

    # ---- serving --------------------------------------------------------------------------

    def __call__(
        self,
        texts: Sequence,
        *,
        alpha: float | str | None = OWN,
        speedup: float | None = None,
        latency_ms: float | None = None,
        infeasible: str = "raise",
        prompt: str | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Answers N texts, in their order. Give at most one of alpha, speedup and latency_ms.

        Args:
          texts: each a string, a pair of strings, or a sequence of token ids.
          alpha: one of the engine's alphas, or None for dense; by default the model's own.
          speedup: expected speedup over dense; each bucket takes its slowest alpha that reaches it.
          latency_ms: time budget of the whole call, tokenizing included. The slowest alpha is
            taken whose measured times (what 95 % of runs stay under) fit into it.
          infeasible: what to do if no alpha is fast enough: "raise" a ValueError, or take the
            "fastest".
          prompt: name of one of an embedding model's prompts, "" for none; by default its default
            prompt.

        Returns:
          Logits float32 [N, C], or embeddings float32 [N, D]. Of a model that answers for each
          token, a list of N arrays [tokens of the text, C].

        Raises:
          ValueError: a text that does not fit, or a speed that cannot be reached.
        """
        asked: dict[str, Any] = {
            "alpha": alpha, "speedup": speedup, "latency_ms": latency_ms, "infeasible": infeasible,
        }  # fmt: skip
        return self.run_encoded(lambda: self._encoded(texts, prompt), **asked)

    def run_encoded(
        self,
        encode: Callable[[], list[dict[str, np.ndarray]]],
        *,
        alpha: float | str | None = OWN,
        speedup: float | None = None,
        latency_ms: float | None = None,
        infeasible: str = "raise",
    ):
        """What a call gives, of texts that are encoded in another way; the rest is as in a call.

        Args:
          encode: gives the inputs `keys` of each text, unpadded; its time counts.
        """
        start = time.perf_counter()
        self.check_ready()
        examples = self.encode(encode)
        choose = self._chooser(examples, alpha, speedup, latency_ms, infeasible, start)
        return self._run(choose, examples)

    def job(self, texts: Sequence, prompt: str | None = None, truncate: bool | None = None) -> Job:
        """A call, to be run in another way; `truncate` is by default as the engine does."""
        return Job(lambda: self._encoded(texts, prompt, truncate), lambda rows: rows)

    def encode(self, encode: Callable[[], list[dict[str, np.ndarray]]]):
        """What `encode` gives, which may use the engine's tokenizer: one at a time does."""
        with self._tokenizing:
            return encode()

    # What models for these tasks are asked, each in its own file.
    rank, answer, tag = ranking.rank, answers.answer, tags.tag

    def submit(
        self,
        text: Any,
        *,
        alpha: float | str | None = OWN,
        speedup: float | None = None,
        latency_ms: float | None = None,
        prompt: str | None = None,
    ) -> Reply:
        """Takes one text and returns a future of its row; it shares a batch with others that wait.

        The future's attribute `served` says how the text was served, once the row is there.

        Args:
          text: a string, a pair of strings, or a sequence of token ids.
          alpha: as in a call.
          speedup: as in a call.
          latency_ms: deadline, counted from now. If neither an alpha nor a speedup is given, the
            alpha is chosen when the text's turn comes: the slowest with which everything that
            waits is in time.
          prompt: as in a call.

        Raises:
          ValueError: at once, as a call does.
          Overloaded: at once, if the deadline cannot be met after what waits, or the queue is full.
          TooLate: from the future; the text was not computed.
        """
        start_s = time.perf_counter()
        if not self._takes:
            self._check_warm()
        examples = self.encode(lambda: self._encoded([text], prompt))
        asked: dict[str, Any] = {"alpha": alpha, "speedup": speedup, "latency_ms": latency_ms}
        return self.submit_encoded(examples, **asked, arrived_s=start_s)[0]

    def submit_encoded(
        self,
        examples: Sequence[Mapping[str, np.ndarray]],
        *,
        alpha: float | str | None = OWN,
        speedup: float | None = None,
        latency_ms: float | None = None,
        arrived_s: float | None = None,
    ) -> list[Reply]:
        """The future rows of encoded texts, as `submit` has them; all are taken, or none.

        Args:
          examples: the inputs `keys` of each text, unpadded.
          arrived_s: when they came, by time.perf_counter; now by default.
        """
        if not self._takes:
            self._check_warm()
        choose: Callable[[int], float | None] | None = self._chooser(examples, alpha, speedup)
        check_asked("latency_ms", latency_ms)
        if latency_ms is not None and speedup is None and alpha == OWN:
            choose = None
        arrived_s = time.perf_counter() if arrived_s is None else arrived_s
        return self._submissions.submit(examples, choose, latency_ms, arrived_s)

    @property
    def waiting(self) -> tuple[int, int]:
        """Requests of `submit` that wait, and their tokens."""
        return self._submissions.waiting()

    def watch(self, on_batch: Callable[[Batch, float], None]) -> None:
        """Has a function told of each batch of `submit` and its milliseconds."""
        self._submissions.watch(on_batch)

    def close(self) -> None:
        """Answers what was submitted, then ends the thread that collects requests.

        Calls are answered as before; `submit` is not.
        """
        self._submissions.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # ---- inside ---------------------------------------------------------------------------

    def _run(self, choose: Callable[[int], float | None], examples: Sequence):
        work = [
            (indices, Shape(length, size, choose(length)))
            for indices, length, size in batches(examples, self.buckets, self.batch_sizes)
        ]
        if self._as_needed is not None:
            self._programs.compile([shape for _, shape in work], self._as_needed)
        rows = run_batches(self._programs, examples, work)
        if self.model.record.per_token:
            return [row[: len(e["input_ids"])] for row, e in zip(rows, examples, strict=True)]
        return np.stack(rows) if rows else np.empty((0, self.model.row_width), np.float32)

    def _encoded(
        self, texts: Sequence, prompt: str | None = None, truncate: bool | None = None
    ) -> list[dict[str, np.ndarray]]:
        embedding = self.model.config.embedding
        if embedding is not None:
            prompt = embedding.prompt(prompt)
        elif prompt is not None:
            raise ValueError(f"prompt is for embedding models; this is for {self.model.task!r}.")
        return encode_requests(
            self.tokenizer,
            texts,
            keys=self.keys,
            ranges=self.model.input_ranges,
            max_length=self.buckets[-1],
            truncate=self.truncate if truncate is None else truncate,
            prompt=prompt,
            reads_pairs=self.model.record.reads_pairs,
        )

    def _chooser(
        self, examples, alpha, speedup, latency_ms=None, infeasible="raise", start=0.0
    ) -> Callable[[int], float | None]:
        """A function from a bucket to the alpha that serves it; `start` is when the call came."""
        asked = Asked(alpha, speedup, latency_ms, infeasible)
        if latency_ms is not None and not self._latencies:
            raise ValueError("latency_ms needs the times that warmup() measures; call it first.")
        shapes = batches(examples, self.buckets, self.batch_sizes)
        spent_ms = 1e3 * (time.perf_counter() - start)
        return asked.chooser(self.model, self.alphas, self._latencies, shapes, spent_ms)

    def check_ready(self) -> None:
        """Raises RuntimeError before `warmup` or `compile_as_needed`."""
        if self._as_needed is None:
            self._check_warm()

    def _check_warm(self) -> None:
        if not self._latencies:
            raise RuntimeError("call warmup() first: the engine compiles nothing while it serves.")


def check_served(model: Model) -> None:
    """Raises ValueError for a model that gives no rows of numbers, or none twice."""
    if model.record.width is None:
        served = ", ".join(name for name, task in TASKS.items() if task.width)
        raise ValueError(f"the engine serves {served}; the model is for {model.task!r}.")
    if find(model.strategy).draws:
        raise ValueError(
            f"strategy {model.strategy!r} never answers the same twice; an engine needs another."
        )
