"""What `generate` and `stream` can be told beside the prompts, alpha and the number of tokens."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax

from latadj_jax.elimination.plan import Plan
from latadj_jax.generation.beam import BeamSearch
from latadj_jax.generation.sampling import Sampling


@dataclasses.dataclass(frozen=True, eq=False)
class GenerationOptions:
    """Keywords of `generate` and `stream`.

    Attributes:
      temperature: 0 takes the most likely token; above 0 tokens are drawn, which needs a `key`.
      top_k: draw from the k most likely tokens only; 0 from all.
      top_p: draw from the most likely tokens that together have this probability; 1 from all.
      stop_tokens: ids after which a row ends; () for none. By default those that
        generation_config.json names, else config.json, else the tokenizer. A chat model whose
        tokenizer ends turns with another token needs both:
        `stop_tokens=latadj_jax.end_tokens(tokenizer, model.config)`.
      pad_token: id that fills a row after its end; by default the config's, or the first stop
        token.
      key: a key of `jax.random.key`, for a temperature above 0.
      num_beams: beams of a beam search; 1 is none.
      length_penalty: exponent of the length that a beam's score is divided by.
      early_stopping: when a beam search ends, as in transformers.
      plan: a plan for the length of `input_ids`, in place of alpha and count; prompts are then not
        padded to buckets.
      count: "valid" or "padded": whose length the prompt's counts follow, see `Plan`.
      rngs: keys that the plan's strategy needs, see `apply`.
      buckets: lengths that prompts are padded to, in place of 16, 24, 32, 48, ...

    Raises:
      ValueError: a value that cannot work, or two that cannot work together.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop_tokens: Sequence[int] | None = None
    pad_token: int | None = None
    key: jax.Array | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    plan: Plan | None = None
    count: str = "valid"
    rngs: Mapping[str, jax.Array] | None = None
    buckets: Sequence[int] | None = None
    beams: BeamSearch = dataclasses.field(init=False)
    sampling: Sampling = dataclasses.field(init=False)

    def __post_init__(self):
        beams = BeamSearch(self.num_beams, self.length_penalty, self.early_stopping)
        if self.num_beams > 1 and self.temperature:
            raise ValueError(
                "beam search draws nothing: leave temperature at 0, or num_beams at 1."
            )
        object.__setattr__(self, "beams", beams)
        sampling = Sampling(self.temperature, self.top_k, self.top_p)
        object.__setattr__(self, "sampling", sampling)


def options_of(function: Callable, given: Mapping[str, Any]) -> GenerationOptions:
    """The keywords that a call of `function` was given; an unknown one is a TypeError."""
    known = [*inspect.signature(function).parameters]
    if unknown := sorted(set(given) - set(known)):
        name = f"{function.__name__}()"
        raise TypeError(f"{name} has no argument {unknown[0]!r}; it has {', '.join(known)}.")
    return GenerationOptions(**given)


def spelled_out(function: Callable, leaving_out: Collection[str] = ()) -> inspect.Signature:
    """The signature of `function(..., **options)` with each option and its default, for `help`."""
    own = list(inspect.signature(function).parameters.values())[:-1]
    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for option in inspect.signature(GenerationOptions).parameters.values()
        if option.name not in leaving_out
    ]
    return inspect.signature(function).replace(parameters=[*own, *options])
