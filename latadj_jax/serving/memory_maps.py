"""Whether a process may have one more program: Linux bounds its memory maps, XLA takes hundreds."""

from pathlib import Path

from latadj_jax.errors import NoRoomError

MAPS, MOST = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
ROOM = 4096  # memory maps: those of several programs; without any left LLVM ends the process


def check_room(programs: int) -> None:
    """Refuses one program too many; where memory maps are not counted, there is none.

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
