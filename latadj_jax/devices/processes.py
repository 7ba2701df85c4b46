"""Several processes as one run: finding each other, who writes, and failing together."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
_BYTES = 2000  # of an error's text that the other processes are told


class OtherProcessError(RuntimeError):
    """Another process of this run failed, for the reason given."""


def join(
    coordinator: str = "", num_processes: int = 0, process_id: int = -1, cluster: bool = False
) -> None:
    """Makes this process one of several; to be called before anything else of jax.

    Args:
      coordinator: "host:port" of process 0; "" is one process, or what `cluster` finds.
      num_processes, process_id: with a coordinator, how many there are and which this is, from 0.
      cluster: whether the environment says all of it: Slurm, Open MPI, Cloud TPU, GKE.

    Raises:
      ValueError: flags that do not go together, or processes that do not find each other.
    """
    numbered = num_processes or process_id >= 0
    if cluster and (coordinator or numbered):
        raise ValueError(
            "--cluster finds the coordinator and the numbers itself; leave out --coordinator, "
            "--num_processes and --process_id."
        )
    if not cluster and not coordinator:
        if numbered:
            raise ValueError("--num_processes and --process_id need --coordinator=HOST:PORT.")
        return
    found = {}
    if coordinator:
        if num_processes < 1:
            raise ValueError("--coordinator needs --num_processes and --process_id.")
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"--process_id is {process_id}; of {num_processes} processes it is 0 to "
                f"{num_processes - 1}."
            )
        found = {"coordinator_address": coordinator, "num_processes": num_processes,
                 "process_id": process_id}  # fmt: skip
    try:
        jax.distributed.initialize(**found)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"the processes of this run did not find each other: {reason}") from None


def leave(message: str) -> NoReturn:
    """Ends this process with status 1 and a message.

    One of several ends at once and without goodbye, which is a barrier: the others may be waiting
    for it elsewhere, and notice that it is gone.
    """
    if not jax.distributed.is_initialized():
        sys.exit(message)
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def is_first_process() -> bool:
    """Whether this process writes logs and reports."""
    return jax.process_index() == 0


def together(do: Callable[[], T]) -> T:
    """`do()`, which fails in every process if it fails in one: no other waits for it in vain.

    All processes must come here, and `do` must not wait for the others itself.

    Raises:
      OtherProcessError: it failed elsewhere, and not here.
    """
    if jax.process_count() == 1:
        return do()
    result, failure = None, None
    try:
        result = do()
    except Exception as error:  # whatever it is, the others must know
        failure = error
    text = b"" if failure is None else (str(failure) or repr(failure)).encode()[:_BYTES]
    padded = np.frombuffer(text.ljust(_BYTES, b"\0"), np.uint8)
    texts = np.asarray(multihost_utils.process_allgather(padded))
    if failure is not None:
        raise failure
    for process, row in enumerate(texts):
        if row.any():
            reason = row.tobytes().rstrip(b"\0").decode(errors="replace")
            raise OtherProcessError(f"process {process} failed: {reason}")
    return result


def first_alone(do: Callable[[], object]) -> None:
    """`do()` in the first process; the others wait for it, and fail if it does."""
    together(lambda: do() if is_first_process() else None)
