"""The JSON files of a checkpoint."""

import json
from pathlib import Path

from latadj_jax.errors import ConfigError


def read_json(file: Path, kind: type = dict):
    """Its object, or its list if `kind` is list.

    Raises:
      ConfigError: a file that is not there, is not JSON, or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{file} is not there; is {file.parent} a model folder?") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    if not isinstance(values, kind):
        raise ConfigError(f"{file} must hold a JSON {'object' if kind is dict else 'array'}.")
    return values


def write_json(file: Path, values) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
