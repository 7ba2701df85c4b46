"""Whether a process may have one more program: Linux bounds its memory maps, XLA takes hundreds."""

from pathlib import Path

from latadj_jax.errors import NoRoomError

MAPS, MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
ROOM = 4096  # a program of 6 layers takes about 470; beyond the last one LLVM ends the process


def check_room(programs: int) -> None:
    """Whether one more program can be compiled; where nothing is counted, it always can.

    Args:
      programs: that there are.

    Raises:
      NoRoomError: memory maps would run out.
    """
    try:
        used, most = MAPS.read_bytes().count(b"\n"), int(MOST.read_text())
    except OSError:  # not Linux
        return
    if most - used < ROOM:
        raise NoRoomError(
            f"no room for a program beside {programs} others: the process has {used} of the {most} "
            f"memory maps that Linux allows; name fewer speeds, buckets or batch sizes, or raise "
            f"vm.max_map_count."
        )
