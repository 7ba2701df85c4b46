"""Padded lengths, and batches padded to them."""

from collections.abc import Mapping, Sequence

import numpy as np

from latadj_jax.checks import is_integer
from latadj_jax.tasks.embedding import SECOND, halves

# Of a text, a number for each token.
INPUTS = ("input_ids", "token_type_ids", "prompt_mask", "protected")


def default_buckets(max_length: int) -> tuple[int, ...]:
    """Padded lengths 16, 24, 32, 48, 64, 96, ... up to and with `max_length`."""
    powers = [2**k for k in range(4, max(5, max_length.bit_length() + 1))]
    steps = sorted(powers + [3 * p // 2 for p in powers])
    return (*(s for s in steps if s < max_length), max_length)


def sizes_of(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """`values`, ascending, each once; ValueError unless they are integers of at least 1."""
    found = list(values) if np.iterable(values) else [values]
    whole = [is_integer(n) and n > 0 for n in found]
    if not np.iterable(values) or not all(whole):
        raise ValueError(f"{name} must be a list of integers of at least 1; it is {values!r}.")
    return tuple(sorted({int(n) for n in found}))


def serving_buckets(buckets: Sequence[int], longest: int) -> tuple[int, ...]:
    """`buckets`, ascending; if empty 16, 24, 32, 48, ... up to 128, or `longest` if that is less.

    Raises:
      ValueError: one that is longer than the model's `longest` input.
    """
    found = sizes_of("buckets", buckets) or default_buckets(min(128, longest))
    if found[-1] > longest:
        raise ValueError(
            f"the bucket {found[-1]} is longer than the model's {longest} positions; leave it out."
        )
    return found


def bucket_of(length: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds `length` tokens."""
    fitting = [b for b in buckets if b >= length]
    if not fitting:
        raise ValueError(
            f"an input of {length} tokens fits no bucket: the largest is {max(buckets)}; "
            f"add a bucket or truncate."
        )
    return min(fitting)


def length_of(example: Mapping[str, np.ndarray]) -> int:
    """Tokens of an example; of the longer of two texts."""
    return max(len(example.get(name, ())) for name in ("input_ids", f"{SECOND}input_ids"))


def pad(examples: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """One batch of unpadded examples, padded on the right: arrays [B, length] and their mask.

    Args:
      examples: each with `input_ids` [n] and optionally others of INPUTS [n], n from 1 to length;
        of two texts that are read one by one, those of the second have SECOND before their names.
    """
    if not examples:
        raise ValueError("a batch needs at least one example; it has none.")
    if any(key.startswith(SECOND) for key in examples[0]):
        first, second = zip(*map(halves, examples), strict=True)
        of_second = {f"{SECOND}{key}": value for key, value in pad(second, length).items()}
        return {**pad(first, length), **of_second}
    keys = [key for key in INPUTS if key in examples[0]]
    batch = {key: np.zeros((len(examples), length), np.int32) for key in keys}
    batch["attention_mask"] = np.zeros((len(examples), length), bool)
    for row, example in enumerate(examples):
        n = len(example["input_ids"])
        if not 1 <= n <= length:
            raise ValueError(f"example {row} has {n} tokens; the batch holds 1 to {length}.")
        if {key: len(ids) for key, ids in example.items()} != dict.fromkeys(keys, n):
            raise ValueError(f"example {row} must have {' and '.join(keys)}, of one length.")
        for key in keys:
            batch[key][row, :n] = example[key]
        batch["attention_mask"][row, :n] = True
    return batch
