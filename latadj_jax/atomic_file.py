"""A text file that is there whole, or as it was before."""

import os
from pathlib import Path


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 beside `path`, and moves it there.

    Raises:
      OSError: it cannot be written; what was there is there still.
    """
    part = Path(f"{os.fspath(path)}.{os.getpid()}.part")
    try:
        part.write_text(text, "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
