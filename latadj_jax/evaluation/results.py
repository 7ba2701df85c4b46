"""What an evaluation finds, as records and as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Quality, speed and work at one alpha.

    Attributes:
      alpha: None is dense.
      metrics: by the part's name, then by the metric's.
      measured_speedup: over dense; None where nothing was timed, as are the next.
      ms_per_example: a median.
      expected_speedup: over dense, see `expected_speedup`.
      macs: multiply-accumulates of an example.
      cache_bytes: of one prompt's key-value cache; None where there is no cache.
      remaining: the mean share of an example's word-vectors left after each layer.
      skipped: the layers (from 1) that do not run; None where all do.
    """

    alpha: float | None
    metrics: Mapping[str, Mapping[str, float]]
    measured_speedup: float | None = None
    ms_per_example: float | None = None
    expected_speedup: float
    macs: float
    cache_bytes: int | None = None
    remaining: Sequence[float]
    skipped: Sequence[int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """A model at several alphas, and how the numbers were made.

    Attributes:
      metrics: their names; the first is the headline.
      examples: how many each part has, by its name.
      unit: what they are.
      timing: what was timed; None where nothing was.
      work: what expected speedup and multiply-accumulates are of.
      num_layers, count, strategy, batch_size, device, dtype, jax: see `conditions`.
      rows: one for each alpha, dense first.
      num_beams: of generated texts; None where none were generated.
      asked: pairs of a speedup that was asked for and its alpha; None where none was.
    """

    metrics: Sequence[str]
    examples: Mapping[str, int]
    unit: str
    timing: str | None = None
    work: str
    num_layers: int
    count: str
    strategy: str
    batch_size: int
    device: str
    dtype: str
    jax: str
    rows: Sequence[Row]
    num_beams: int | None = None
    asked: Sequence[Sequence[float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """As results.json holds it; what there is none of is left out."""
        rows = [{"alpha": row.alpha, **_present(row)} for row in self.rows]
        return {**_present(self), "rows": rows}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Results":
        """Of what `to_json` gave; more keys may stand beside it."""
        known = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        return cls(**{**known, "rows": [Row(**row) for row in values["rows"]]})


def _present(record) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if value is not None}
