"""Packages that only some uses need: what is missing is named together with its extra."""

import importlib.util

from latadj_jax.errors import MissingPackageError


def require(extra: str, *modules: str) -> None:
    """Raises MissingPackageError unless all `modules`, e.g. "orbax.checkpoint", are installed.

    Args:
      extra: the one of pyproject.toml that brings them.
    """
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingPackageError(
            f"this needs {' and '.join(missing)}, which {verb} not installed: "
            f"pip install 'latadj_jax[{extra}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a parent is missing
        return False
