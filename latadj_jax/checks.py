"""Checks of arguments that many functions take."""

import numbers


def check_integer(name: str, value, least: int) -> None:
    """Raises ValueError unless it is an integer of at least `least`; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; it is {value!r}.")
