"""Facts planted far back in a long text (passkey retrieval, the needle in a haystack)."""

import numpy as np

from latadj_jax.data.last_words import encode_last_word
from latadj_jax.errors import DataError
from latadj_jax.pretrained.tokenizers import encode_text

_NAMES = (
    "Alice", "Boris", "Clara", "Dmitri", "Elena", "Farid", "Greta", "Hiro", "Ingrid", "Jamal",
    "Katya", "Luis", "Miriam", "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Stefan", "Tamar",
)  # fmt: skip


_NUMBERS = tuple(str(n) for n in range(1000, 10000))


_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "brown", "pink", "grey")


_CITIES = ("Paris", "Cairo", "Lima", "Oslo", "Tokyo", "Madrid", "Vienna", "Dublin", "Prague")


# The opening of a fact, and what may end it.
_FACTS = (
    ("The secret code of {} is", _NUMBERS),
    ("The telephone number of {} is", _NUMBERS),
    ("The number of the room where {} lives is", _NUMBERS),
    ("The ticket that {} bought has the number", _NUMBERS),
    ("The favourite colour of {} is", _COLOURS),
    ("The house of {} is painted in", _COLOURS),
    ("The city where {} was born is", _CITIES),
    ("The letter from {} was posted in", _CITIES),
)


def planted_facts(
    tokenizer, filler_ids: np.ndarray, length: int, num: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`num` far-back retrieval tasks: (context ids int32 [length], answer ids int32 [m]).

    A short fact ("The secret code of Alice is 7421.") stands somewhere in the first quarter of a
    stretch of filler text, and the context ends in the opening of that fact ("The secret code of
    Alice is"), so the answer (" 7421") must be fetched from far back. The tokens of opening and
    answer are the same in both places, and the answer is nowhere else in the context. Facts and
    filler are drawn by `seed`; the k-th task does not depend on `num`.

    Raises:
      DataError: a length whose quarter cannot hold a fact, or filler that is too short or holds
        every answer.
    """
    filler_ids, rng = np.asarray(filler_ids, np.int32), np.random.default_rng(seed)
    return [_planted_fact(tokenizer, filler_ids, length, rng) for _ in range(num)]


def _planted_fact(
    tokenizer, filler_ids: np.ndarray, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    for _ in range(100):
        template, values = _FACTS[rng.integers(len(_FACTS))]
        opening = " " + template.format(_NAMES[rng.integers(len(_NAMES))])
        value = values[rng.integers(len(values))]
        opening_ids, answer_ids = encode_last_word(tokenizer, opening, value)
        fact_ids = np.concatenate([opening_ids, answer_ids, encode_text(tokenizer, ".")])
        if len(fact_ids) > length // 4:
            raise DataError(
                f"A fact of {len(fact_ids)} tokens does not fit into the first quarter of "
                f"{length} tokens; use a length of at least {4 * len(fact_ids)}."
            )
        num_filler = length - len(fact_ids) - len(opening_ids)
        if len(filler_ids) < num_filler:
            raise DataError(
                f"The filler has {len(filler_ids)} tokens, a context of {length} tokens needs "
                f"{num_filler}; use more text."
            )
        start = rng.integers(len(filler_ids) - num_filler + 1)
        filler = filler_ids[start : start + num_filler]
        if value not in tokenizer.decode(filler):
            place = rng.integers(length // 4 - len(fact_ids) + 1)
            parts = [filler[:place], fact_ids, filler[place:], opening_ids]
            return np.concatenate(parts), answer_ids
    raise DataError("The filler holds the answer of each of 100 facts drawn; use other text.")
