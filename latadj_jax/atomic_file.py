"""A file that is there whole, or as it was before."""

import os
from pathlib import Path


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a text, as UTF-8, or bytes beside `path`, and moves them there.

    Raises:
      OSError: it cannot be written; what was there is there still.
    """
    part = Path(f"{os.fspath(path)}.{os.getpid()}.part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
