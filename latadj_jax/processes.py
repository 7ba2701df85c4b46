"""Several processes as one run: who coordinates, and which of them this one is."""

import jax


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
    if cluster and coordinator:
        raise ValueError("--cluster finds the coordinator itself; leave one of the two out.")
    if not cluster and not coordinator:
        if num_processes or process_id >= 0:
            raise ValueError("--num_processes and --process_id need --coordinator=HOST:PORT.")
        return
    found = {}
    if coordinator:
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"--process_id is {process_id}; of {num_processes} processes it is 0 to "
                f"{num_processes - 1}: give --num_processes and --process_id."
            )
        found = {"coordinator_address": coordinator, "num_processes": num_processes,
                 "process_id": process_id}  # fmt: skip
    try:
        jax.distributed.initialize(**found)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"the processes of this run did not find each other: {reason}") from None
