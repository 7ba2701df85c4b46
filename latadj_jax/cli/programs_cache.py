"""Compiled programs that the commands keep from one run to the next, by jax's persistent cache.

In ~/.cache/latadj (or $XDG_CACHE_HOME/latadj), at most 2 GB, the oldest leave first. Whoever has
set JAX_COMPILATION_CACHE_DIR has their own; JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
"""

import hashlib
import os
import platform
import sys
from collections.abc import MutableMapping
from pathlib import Path

FOLDER = "JAX_COMPILATION_CACHE_DIR"
SETTINGS = {
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 10**9),  # bytes
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}


def keep_programs(environment: MutableMapping[str, str] = os.environ) -> None:
    """To be called before jax is imported, which reads the environment; else nothing happens."""
    if "jax" in sys.modules or FOLDER in environment:
        return
    caches = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(caches) / "latadj" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or a full disk: programs are compiled again
        return
    environment[FOLDER] = str(folder)
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)


def _processor() -> str:
    """A folder for each kind: a home may be shared, and programs use what a processor has."""
    about = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        about += next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):  # not Linux
        pass
    return hashlib.sha256(about.encode()).hexdigest()[:12]
