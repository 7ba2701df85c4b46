"""The errors of this package; the message of each is one sentence.

Each is a ValueError, but those of an engine that has too much to do.
"""


class ConfigError(ValueError):
    """A model config that cannot be used; the message names the key."""


class SourceError(ValueError):
    """A source that leads nowhere; the message says what was looked for and what to do."""


class WeightsError(ValueError):
    """Weights that cannot be used; the message names the file or the tensors."""


class GGUFError(ValueError):
    """A GGUF file that cannot be used; the message names the file and what is wrong."""


class DataError(ValueError):
    """Data that cannot be used; the message names the place (a file and row) and the fix."""


class TextError(DataError):
    """A text that cannot be read: its number (from 0), what is wrong, and what it is called."""

    def __init__(self, number: int, what: str, called: str = ""):
        super().__init__(f"{called or f'text {number}'} {what}")
        self.number, self.what = number, what


class TooLongError(TextError):
    """A text that is longer than what there are programs for."""


class SettingsError(ValueError):
    """A setting that cannot work; the message names it and the fix."""


class MissingPackageError(ValueError, ImportError):
    """A package that is not installed; the message says what installs it."""


class Overloaded(RuntimeError):
    """A request that is refused at once: what waits before it leaves no time, or no room, for it.

    Attributes:
      retry_after_s: when there may be, in seconds from now.
    """

    def __init__(self, message: str, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLate(RuntimeError):
    """A request whose deadline could not be met any more when its turn came: not computed."""
