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
        if isinstance(content, bytes):
            part.write_bytes(content)
        else:
            part.write_text(content, "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
