"""Checks of arguments that many functions take, and of the settings of a run."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

from latadj_jax.errors import SettingsError

DTYPES = ("float32", "bfloat16")  # of a computation


def is_number(value) -> bool:
    """Whether it is a real number, of NumPy too; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value) -> bool:
    """Whether it is an integer, of NumPy too; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_integer(name: str, value, least: int) -> None:
    """Raises ValueError unless it is an integer of at least `least`; True and False are none."""
    if not is_integer(value) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; it is {value!r}.")


def check_fits(
    tokens: int,
    positions: int,
    what: str,
    fix: str,
    reader: str = "the model",
    error: type[ValueError] = ValueError,
) -> None:
    """Raises `error` where there are more `tokens` than positions to read them at.

    Args:
      what: the sentence's beginning, e.g. "the text has 600 tokens".
      fix: its end, e.g. "shorten it".
      reader: what has the positions.
    """
    if tokens > positions:
        raise error(f"{what}, {reader} has {positions} positions; {fix}.")


def need(ok: bool, key: str, value: Any, rule: str) -> None:
    """Raises SettingsError unless `ok`: the setting `key`, as in "data.buckets", breaks a rule."""
    if not ok:
        raise SettingsError(f"config.{key} must be {rule}; it is {value!r}.")


def need_one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    need(value in allowed, key, value, f"one of {', '.join(allowed)}")


def need_positive(key: str, value: float) -> None:
    need(math.isfinite(value) and value > 0, key, value, "greater than 0")


def need_not_negative(key: str, value: float) -> None:
    need(math.isfinite(value) and value >= 0, key, value, "0 or greater")
