"""What a server may be told, beside its engine's own settings."""

import dataclasses

from latadj_jax.checks import check_integer
from latadj_jax.serving.budgets import check_asked


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """
    Attributes:
      name: of the model, as clients are told it.
      slo_ms: within so many milliseconds a request is served that asks for nothing else; None: at
        the model's own alpha, however long that takes.
      api_key: what clients have to send; None: nothing.
      max_body_bytes, max_texts: of a request.
      max_requests: that are worked on at once.
      read_s: within so many seconds a request has to have come in whole.
    """

    name: str
    slo_ms: float | None = None
    api_key: str | None = None
    max_body_bytes: int = 2_000_000
    max_texts: int = 256
    max_requests: int = 1024
    read_s: float = 30.0

    def __post_init__(self):
        check_asked("slo_ms", self.slo_ms)
        check_asked("read_s", self.read_s)
        for name in ("max_body_bytes", "max_texts", "max_requests"):
            check_integer(name, getattr(self, name), 1)
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key is empty; leave it out, or give one.")
