"""Functions that stay one call in a jaxpr, so that an exporter can put one operator in its place.

XLA inlines such calls before anything else: what is computed, and how fast, is the same.
"""

import functools
from collections.abc import Callable

import jax

PREFIX = "latadj_"


def named(*static: str) -> Callable[[Callable], Callable]:
    """A decorator: the function is called as `latadj_NAME` in a jaxpr.

    Args:
      static: names of arguments that are no arrays.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        call.__name__ = f"{PREFIX}{function.__name__}"
        return jax.jit(call, static_argnames=static)

    return decorate
