"""The errors of this package. The message of each is one sentence.

All are a ValueError, except Overloaded and TooLate: there the input is fine, and time is short.
"""


class ConfigError(ValueError):
    """A model's config cannot be used; the message names the key."""


class SourceError(ValueError):
    """There is nothing at a source; the message says what was looked for, and what to do."""


class WeightsError(ValueError):
    """Weights cannot be used; the message names the file or the tensors."""


class GGUFError(ValueError):
    """A GGUF file cannot be used; the message names the file and what is wrong."""


class DataError(ValueError):
    """Data cannot be used; the message names the place (a file and a row) and the fix."""


class TextError(DataError):
    """A text cannot be read.

    Attributes:
      number: which text it is, from 0.
      what: what is wrong with it; the message says which text, and this.
    """

    def __init__(self, number: int, what: str, called: str = ""):
        super().__init__(f"{called or f'text {number}'} {what}")
        self.number, self.what = number, what


class TooLongError(TextError):
    """A text is longer than the largest bucket."""


class SettingsError(ValueError):
    """A setting cannot work; the message names it and the fix."""


class NoRoomError(ValueError):
    """A process has no room for one more program; the message says of what, and the fix."""


class MissingPackageError(ValueError, ImportError):
    """A package is not installed; the message says what installs it."""


class Overloaded(RuntimeError):
    """A request is refused at once, because what waits before it leaves no time or no room for it.

    Attributes:
      retry_after_s: seconds until it may be worth trying again.
    """

    def __init__(self, message: str, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLate(RuntimeError):
    """A request's deadline had passed, or was out of reach, when its turn came; not computed."""
