"""Flags of `latadj serve` as a YAML has them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any


def argv_of(args: Mapping[str, Any]) -> list[str]:
    """As they would be written behind `latadj serve`.

    Raises:
      ValueError: no model among them.
    """
    rest = dict(args)
    if "model" not in rest:
        raise ValueError("args name no model; give a folder, a hub id, or package:NAME/path.")
    argv = [str(rest.pop("model"))]
    for name, value in rest.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is not False and value is not None:
            argv.append(f"--{name}={value}")
    return argv


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """
    Raises:
      ValueError: flags that there are not.
    """
    from latadj_jax.cli.serve import make_parser  # imports jax

    try:
        return make_parser("serve run").parse_args(list(argv))
    except SystemExit as error:  # one sentence
        raise ValueError(str(error)) from None
