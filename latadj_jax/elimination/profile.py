"""The elimination profile: per layer, the share of word-vectors to keep before alpha is applied."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from latadj_jax.atomic_file import write_whole
from latadj_jax.checks import check_integer, is_number
from latadj_jax.elimination.depth import check_order, skip_alphas
from latadj_jax.elimination.fits import DEFAULT_FIT, FITS

ALONE = 1e-3  # a rate under it leaves nothing but protected word-vectors, at any alpha in use


@dataclasses.dataclass(frozen=True)
class Profile:
    """Elimination profile (EP) of a model; hashable.

    Attributes:
      rates: EP per layer, in (0, 1]: the share of word-vectors to keep at alpha 1.
      acc: the measured ACC per layer, or () where nothing was measured.
      curve: the fitted ACC curve f(1)..f(L), or ().
      fit: the name of the fit, or "constant", "falling", or whatever else made it.
      layers: the layers (from 1) that remove anything; () for all of them.
      exponents: of alpha, per layer, in [0, 10]; () becomes 1 everywhere, as in the paper. With 0
        a layer keeps the share `rates` at any alpha.
      skip_at: per layer, the largest alpha at which it does not run; 0, of the first layer always,
        is none. () becomes 0 everywhere, as in the paper.
      min_tokens: word-vectors that every layer keeps at any alpha, of a text that has so many; 1 in
        the paper. The mean of one that is left of a few says little of their text (docs/depth.md).
    """

    rates: tuple[float, ...]
    acc: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()
    fit: str = "constant"
    layers: tuple[int, ...] = ()
    exponents: tuple[float, ...] = ()
    skip_at: tuple[float, ...] = ()
    min_tokens: int = 1

    def __post_init__(self):
        object.__setattr__(self, "rates", _floats("rates", self.rates, high=1.0))
        object.__setattr__(self, "acc", _floats("acc", self.acc, optional=True))
        object.__setattr__(self, "curve", _floats("curve", self.curve, optional=True))
        exponents = self.exponents if np.size(self.exponents) else np.ones(len(self.rates))
        object.__setattr__(self, "exponents", _floats("exponents", exponents, high=10.0, zero=True))
        below = self.skip_at if np.size(self.skip_at) else np.zeros(len(self.rates))
        object.__setattr__(self, "skip_at", _floats("skip_at", below, zero=True))
        if self.skip_at[0]:
            raise ValueError("skip_at must be 0 for the first layer, which always runs.")
        check_integer("min_tokens", self.min_tokens, 1)
        for name in ("acc", "curve", "exponents", "skip_at"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.rates):
                raise ValueError(f"{name} must have one value per layer ({len(self.rates)}).")
        every = range(1, self.num_layers + 1)
        if not np.iterable(self.layers):
            raise ValueError(f"layers must be a list of layers, from 1; it is {self.layers!r}.")
        if wrong := [n for n in self.layers if isinstance(n, bool) or n not in every]:
            raise ValueError(f"layers must lie in 1..{self.num_layers}; {wrong[0]!r} does not.")
        object.__setattr__(self, "layers", tuple(sorted(int(n) for n in self.layers)))

    @property
    def num_layers(self) -> int:
        return len(self.rates)

    @classmethod
    def constant(cls, num_layers: int, rate: float = 1.0) -> "Profile":
        """The same rate in every layer; at 1, alpha alone acts, as for an uncalibrated model."""
        check_integer("num_layers", num_layers, 1)
        return cls(rates=(rate,) * num_layers)

    @classmethod
    def at_layers(cls, num_layers: int, layers: Sequence[int]) -> "Profile":
        """Removal in these layers only (from 1): alpha is the share that each of them keeps."""
        check_integer("num_layers", num_layers, 1)
        return cls(rates=(1.0,) * num_layers, layers=cast("tuple[int, ...]", layers))

    @classmethod
    def falling(cls, num_layers: int, reads_all: bool = False) -> "Profile":
        """Nothing measured, later layers remove more.

        Rates of 6 layers are 1, 0.8, 0.75, 0.7, 0.65 and next to 0; of more layers, such rates
        raised to the power 6 / num_layers. The last layer leaves only what is protected (CLS) at
        any alpha in use, up to 1e6 / length: nothing else of it is read, so that its removal costs
        no quality. In docs/quality.md MiniLM is better with it than with the profile of ACC on
        MRPC and STS-B; on CoLA, whose texts are short, a dense model pruned to 2x and beyond with
        no training for it is better with that of ACC.

        Args:
          reads_all: whether a head reads every word-vector that is left, see `Task.reads_all`: the
            last layer then goes on with the rates before it.
        """
        check_integer("num_layers", num_layers, 1)
        if reads_all:
            rates = np.linspace(0.8, 0.65, max(num_layers - 1, 1)) ** (6 / num_layers)
            return cls(rates=(1.0, *rates)[:num_layers], fit="falling")
        if num_layers == 1:
            return cls(rates=(1e-6,), fit="falling")
        between = np.linspace(0.8, 0.65, num_layers - 2) ** (6 / num_layers)
        return cls(rates=(1.0, *between, 1e-6), fit="falling")

    @classmethod
    def from_acc(cls, acc: Sequence[float], fit: str = DEFAULT_FIT) -> "Profile":
        """Profile of measured ACC values, one per layer.

            EP_l = min(1, f(l) / f(l-1)),   f(0) = 1

        where f is the curve fitted to ACC_1..ACC_L. Where it rises, EP is 1: elimination halts.

        Args:
          acc: the ACC of layers 1..L, each greater than 0.
          fit: "linear", "quadratic" (the default), "exponential" (`exp(a + b l)`), or "none" (the
            values as they are). On real text MiniLM's ACC falls steeply over the first layers, is
            flat, and rises again in the last; of the smooth curves the quadratic follows that
            closest and halts elimination where it rises (`benchmarks/acc_curves.py`).

        Source: arXiv 2201.03327, section 3.
        """
        acc = _floats("acc", acc)
        if not isinstance(fit, str) or fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}; it is {fit!r}.")
        curve = FITS[fit](np.arange(1, len(acc) + 1, dtype=np.float64), np.asarray(acc))
        # A polynomial may dip to zero and below, which no measured layer does.
        curve = np.maximum(curve, 0.01 * min(acc))
        rates = np.minimum(1.0, curve / np.concatenate([[1.0], curve[:-1]]))
        return cls(rates=tuple(rates), acc=acc, curve=tuple(curve), fit=fit)

    def path(self, depth: float, order: Sequence[int] = ()) -> "Profile":
        """One alpha along two axes: this profile's speeds, a part of them by skipping layers.

        Of the logarithm of a speedup, `depth` is reached by fewer layers and the rest by fewer
        word-vectors. With d = `depth`, S(alpha) this profile's speedup of a long text, and L_n
        layers left once the n-th is skipped,

            EP' = EP^(1-d),   w' = w (1-d),   the n-th skipped where S(alpha)^d > L / (L_n + 1/2)

        so that about S(alpha) remains at each alpha. 0 is this profile, 1 removes no word-vector. A
        layer that leaves only protected ones at any alpha keeps doing so. A layer whose share of a
        speedup no alpha reaches is never skipped.

        Args:
          order: layers (from 1), the first to be skipped first; `every_other` by default. A layer
            that is not named always runs.

        Raises:
          ValueError: a depth outside of [0, 1]; an order that names the first layer, another than
            there is, or one twice; a profile that skips layers already.
        """
        if not is_number(depth) or not 0 <= depth <= 1:
            raise ValueError(f"depth must be a number in [0, 1]; it is {depth!r}.")
        order = check_order(order, self.num_layers)
        if depth == 0:
            return self
        if any(self.skip_at):
            raise ValueError("a profile that skips layers already has a path.")
        acts = [
            rate >= ALONE and (not self.layers or layer in self.layers)
            for layer, rate in enumerate(self.rates, 1)
        ]
        share = np.where(np.array(self.rates) < ALONE, 1.0, 1 - depth)
        return dataclasses.replace(
            self,
            rates=tuple(np.array(self.rates) ** share),
            exponents=tuple(np.array(self.exponents) * share),
            skip_at=skip_alphas(self.rates, self.exponents, acts, depth, order),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the profile as JSON."""
        write_whole(path, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Profile":
        """Reads a profile that `save` wrote; ValueError says what is wrong with any other file."""
        try:
            values = json.loads(Path(path).read_text())
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a profile: it is not JSON ({error}).") from None
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "Profile":
        known = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(values, dict) or "rates" not in values or set(values) - known:
            others = ", ".join(sorted(known - {"rates"}))
            raise ValueError(f"a profile needs the key rates, and may have {others}.")
        if not isinstance(values.get("fit", ""), str):
            raise ValueError(f"fit must be a name; it is {values['fit']!r}.")
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)


def _short(values) -> str:
    text = repr(values)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _floats(
    name: str, values, high: float = np.inf, optional: bool = False, zero: bool = False
) -> tuple[float, ...]:
    try:
        kind = np.asarray(values).dtype.kind  # texts and truth values would be numbers, too
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        kind = None
    if kind not in ("f", "i", "u"):
        raise ValueError(f"{name} must be numbers, one per layer; it is {_short(values)}.")
    if array.ndim != 1 or (array.size == 0 and not optional):
        raise ValueError(f"{name} must be a sequence of numbers, one per layer.")
    low = (array >= 0 if zero else array > 0).all()
    if not (np.isfinite(array).all() and low and (array <= high).all()):
        least = "at least 0" if zero else "greater than 0"
        raise ValueError(f"{name} must be {least} and at most {high:g}; it is {_short(values)}.")
    return tuple(float(v) for v in array)
