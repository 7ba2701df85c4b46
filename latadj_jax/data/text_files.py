"""Text files as they come: encodings, line ends, JSON lines. Errors name the file and row."""

import codecs
import json
import logging
import pathlib
from collections.abc import Iterator

from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import DataError
from latadj_jax.pretrained import sources

log = logging.getLogger(__name__)


def local_files(data: DataSettings) -> list[pathlib.Path]:
    """The one file that `data.path` is, or of that folder `train_file` and the `eval_files`.

    Raises:
      DataError, SourceError: what is missing.
    """
    path = sources.local_path(data.path)
    if path is None:
        raise DataError(f"config.data.path is {data.path!r}: there is no such folder or file.")
    if path.is_file():
        return [path]
    files = [path / file for file in (data.train_file, *data.eval_files)]
    for file in files:
        if not file.is_file():
            present = ", ".join(sorted(p.name for p in path.iterdir()))
            raise DataError(
                f"{path} has no file {file.name!r}; it has: {present}. "
                "Set config.data.train_file and config.data.eval_files."
            )
    stems = [file.stem for file in files[1:]]
    if len(set(stems)) < len(stems):
        raise DataError(f"config.data.eval_files {data.eval_files} need names that differ.")
    return files


def decode(path: pathlib.Path) -> str:
    """The text of a UTF-8 file, without its BOM; broken bytes become U+FFFD, and are counted.

    Raises:
      DataError: a file in UTF-16.
    """
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16; save it as UTF-8.")
    text = raw.decode("utf-8-sig", errors="replace")
    if broken := text.count("\ufffd") - raw.count("\ufffd".encode()):
        log.warning("%s: %d broken characters were replaced by U+FFFD.", path, broken)
    return text


def read_text(path: str | pathlib.Path) -> str:
    """The running text of a UTF-8 file (see `decode`), line ends as "\\n".

    Raises:
      DataError: no such file, UTF-16, a binary file, or nothing but white space.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.")
    text = decode(path)
    if "\0" in text:
        raise DataError(f"{path} is a binary file; needed is UTF-8 text.")
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text.replace("\r\n", "\n")


def json_lines(name: str, text: str) -> Iterator[tuple[int, dict]]:
    """(row, object) of each line of a JSON-lines file that is not blank."""
    # Not splitlines(): texts may hold U+0085 and other characters that it takes for line ends.
    for row, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, row {row}: not JSON ({error}).") from None
        if not isinstance(record, dict):
            raise DataError(f"{name}, row {row}: not a JSON object; needed is one in each line.")
        yield row, record


def a_string(where: str, text) -> str:
    """`text`, if it is one."""
    if not isinstance(text, str):
        raise DataError(f"{where}: a text is not a string.")
    # A lone surrogate, from a cut "\ud83d" escape in JSON, is no character that has a token.
    return text.encode("utf-8", "replace").decode("utf-8")
