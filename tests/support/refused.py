"""What a command says that refuses."""

import pytest


def refused(run, *arguments) -> str:
    """The sentence that ends `run`: what Python prints before it exits with status 1."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert isinstance(ended.value.code, str)
    assert "\n" not in ended.value.code
    return ended.value.code
