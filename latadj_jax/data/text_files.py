"""Text files as they come: encodings, line ends, JSON lines. Errors name the file and row."""

import codecs
import json
import logging
import pathlib
from collections.abc import Iterator

from latadj_jax.data.settings import DataSettings
from latadj_jax.data.squad import squad_articles, squad_records
from latadj_jax.errors import DataError
from latadj_jax.pretrained import sources
from latadj_jax.pretrained.tokenizers import without_surrogates

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


def json_records(name: str, text: str) -> Iterator[tuple[int | str, dict]]:
    """(row, object) of a JSON file: an array of objects, or one in each line that is not blank.

    Rows are elements of the array, or lines, from 1; of SQuAD's layout, the ids of its questions.

    Raises:
      DataError: the row that is not JSON, or is no object.
    """
    # Not splitlines(): texts may hold U+0085 and other characters that it takes for line ends.
    lines = [(row, line) for row, line in enumerate(text.split("\n"), 1) if line.strip()]
    is_whole = len(lines) == 1 or not (lines and _is_json(lines[0][1]))
    if is_whole and (articles := squad_articles(text)) is not None:
        rows = squad_records(name, articles)
    elif is_whole and text.lstrip().startswith("["):
        rows = enumerate(_parsed(name, text), 1)
    else:
        if len(lines) > 1 and _is_json(text):  # lines would each be JSON, and their whole not
            raise DataError(
                f"{name} is one JSON object; needed is an array of objects, or one in each line."
            )
        rows = ((row, _parsed(f"{name}, row {row}", line)) for row, line in lines)
    for row, record in rows:
        if not isinstance(record, dict):
            raise DataError(
                f"{name}, row {row}: not a JSON object; needed is an array of them, or one in each "
                "line."
            )
        yield row, record


def _parsed(where: str, text: str):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}).") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def a_string(where: str, text) -> str:
    """`text`, if it is one."""
    if not isinstance(text, str):
        raise DataError(f"{where}: a text is not a string.")
    return without_surrogates(text)
