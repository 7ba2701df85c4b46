"""Examples whose answer lies far back in their context: last words (LAMBADA), and facts planted in
a long text (passkey retrieval, the needle in a haystack)."""

import pathlib

import numpy as np

from latadj_jax.corpus import encode_text
from latadj_jax.files import DataError, a_string, json_lines, read_text

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


def load_last_words(path: str | pathlib.Path) -> list[tuple[str, str]]:
    """(context, last word) of each line of a LAMBADA-style JSON-lines file.

    An object has a "text", whose last word is the target, or a "context" and a "target" (or
    "word"). The white space between the two is in neither.

    Raises:
      DataError: file and row of what is not JSON, has other keys, or lacks a word or its context.
    """
    path, examples = pathlib.Path(path), []
    for row, record in json_lines(path.name, read_text(path)):
        where = f"{path.name}, row {row}"
        word = "target" if "target" in record else "word"
        keys = ("text",) if "text" in record else ("context", word)
        if not {*keys} <= {*record}:
            raise DataError(
                f"{where}: it has {', '.join(record) or 'no keys'}; needed is text, or context "
                f"with target or word."
            )
        parts = [a_string(where, record[key]).strip() for key in keys]
        if len(parts) == 1:
            parts = parts[0].rsplit(None, 1)
        if len(parts) < 2 or not all(parts):
            raise DataError(f"{where}: needed are a last word and a context before it.")
        examples.append((parts[0].rstrip(), parts[1]))
    return examples


def encode_last_word(tokenizer, context: str, word: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of the context, int32 [n], and of the word after it, int32 [m].

    The ids are those of the whole text, context + " " + word, and the space belongs to the word
    (" word" is one token in GPT-2). White space that ends the context goes to the word too, in
    place of that space. The context begins with the tokenizer's BOS, if it adds one. Where the ids
    of the whole do not begin with those of the context, both are encoded on their own (the
    lm-evaluation-harness, otherwise the model here, does not check).

    Raises:
      DataError: a context or word without any tokens.
    """
    start = context.rstrip()
    ending = (context[len(start) :] or " ") + word
    context_ids, whole_ids = encode_text(tokenizer, start), encode_text(tokenizer, start + ending)
    word_ids = whole_ids[len(context_ids) :]
    if not (len(word_ids) and np.array_equal(whole_ids[: len(context_ids)], context_ids)):
        word_ids = encode_text(tokenizer, ending)
    if not (word.strip() and len(context_ids) and len(word_ids)):
        raise DataError(f"No tokens in the context {context!r} or in the word {word!r} after it.")
    begin = tokenizer("", verbose=False)["input_ids"][:1]
    begin = begin if begin == [tokenizer.bos_token_id] else []
    return np.concatenate([np.array(begin, np.int32), context_ids]), word_ids


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
