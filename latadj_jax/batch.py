"""Batches: buckets, padding, and the checks that come before any compilation."""

import numbers
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

PASSENGERS = ("labels", "weights")  # may travel in a batch; the model does not read them


def default_buckets(max_length: int) -> tuple[int, ...]:
    """Padded lengths 16, 24, 32, 48, 64, 96, ... up to and with `max_length`."""
    powers = [2**k for k in range(4, max(5, max_length.bit_length() + 1))]
    steps = sorted(powers + [3 * p // 2 for p in powers])
    return (*(s for s in steps if s < max_length), max_length)


def sizes_of(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """`values`, ascending, each once; ValueError unless they are integers of at least 1."""
    found = list(values) if np.iterable(values) else [values]
    whole = [isinstance(n, numbers.Integral) and not isinstance(n, bool) and n > 0 for n in found]
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


def pad(examples: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """One batch of unpadded examples, padded on the right: arrays [B, length] and their mask.

    Args:
      examples: each with `input_ids` [n] and optionally `token_type_ids` [n], n from 1 to length.
    """
    if not examples:
        raise ValueError("a batch needs at least one example; it has none.")
    keys = [key for key in ("input_ids", "token_type_ids") if key in examples[0]]
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


def group(
    lengths: Sequence[int],
    buckets: Sequence[int],
    batch_size: int,
    rng: np.random.Generator | None = None,
) -> list[tuple[np.ndarray, int]]:
    """Every example once, in batches of one bucket each: [(indices, bucket)].

    Full batches hold examples of one bucket only; what is left over in each shares batches of the
    largest bucket among them, and only the last batch may be short. Shuffled by `rng`, if given.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    of_example = np.array([bucket_of(n, buckets) for n in lengths])
    full, rest = [], []
    for bucket in sorted(set(of_example.tolist())):
        members = order[of_example[order] == bucket]
        whole = len(members) // batch_size * batch_size
        full += [(part, bucket) for part in members[:whole].reshape(-1, batch_size)]
        rest.append(members[whole:])
    rest = np.concatenate(rest) if rest else np.array([], int)
    for start in range(0, len(rest), batch_size):
        part = rest[start : start + batch_size]
        full.append((part, int(of_example[part].max())))
    if rng is not None:
        full = [full[i] for i in rng.permutation(len(full))]
    return full


def collate(
    examples: Sequence[Mapping[str, np.ndarray]],
    labels: np.ndarray,
    indices: np.ndarray,
    bucket: int,
    batch_size: int,
    own: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The batch of the examples at `indices`, with `labels` [B] and `weights` float32 [B].

    A short batch is filled up to `batch_size` with its first example at weight 0, so that every
    batch of a bucket has one shape; of its rows only those in `own` are made, if given. Labels that
    are target ids, int32 [N, S] with -1 after their ends, are cut to the bucket of the longest in
    the batch; a teacher's logits, float32 [N, C], stay as they are.
    """
    rows = np.concatenate([indices, np.repeat(indices[:1], batch_size - len(indices))])
    weights = (np.arange(batch_size) < len(indices)).astype(np.float32)
    labels = labels[rows]
    if labels.ndim == 2 and labels.dtype.kind == "i":
        longest = int((labels >= 0).sum(axis=1).max())
        labels = labels[:, : bucket_of(longest, default_buckets(labels.shape[1]))]
    own = np.arange(batch_size) if own is None else own
    batch = pad([examples[i] for i in rows[own]], bucket)
    return {**batch, "labels": labels[own], "weights": weights[own]}


def check_inputs(
    batch: Mapping[str, jax.Array], ranges: Mapping[str, int], max_positions: int
) -> None:
    """Refuses what a model cannot read; traced values pass unlooked at. Compiles nothing.

    Args:
      batch: `input_ids` [B, T], optionally `attention_mask` and the other keys of `ranges`.
      ranges: the inputs that the family reads and how many values each can take.

    Raises:
      ValueError: one sentence that names the key and the fix.
    """
    known = (*ranges, "attention_mask")
    if not isinstance(batch, Mapping):
        raise ValueError(f"batch must be a dict of arrays; it is of type {type(batch).__name__}.")
    if unknown := sorted(set(batch) - {*known, *PASSENGERS}):
        raise ValueError(f"batch has an unknown key {unknown[0]!r}; it may have {known}.")
    if "input_ids" not in batch:
        raise ValueError("batch has no 'input_ids'.")
    shape = shape_of("input_ids", batch["input_ids"])
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"input_ids must be [B, T] with B and T at least 1; it is {list(shape)}.")
    if shape[1] > max_positions:
        raise ValueError(
            f"input_ids is {shape[1]} tokens long, the model has {max_positions} positions; "
            f"truncate it."
        )
    for key in known:
        if key in batch:
            of_key = shape if key != "decoder_input_ids" else _target_shape(batch[key], shape[0])
            _check_array(key, batch[key], of_key, ranges.get(key))
    mask = batch.get("attention_mask")
    if mask is not None and is_concrete(mask):
        if not np.isin(np.asarray(mask), (0, 1)).all():
            raise ValueError("attention_mask must hold 1 for tokens and 0 for padding only.")
        has_token_B = (np.asarray(mask) != 0).any(axis=1)
        if not has_token_B.all():
            row = int(np.argmin(has_token_B))
            raise ValueError(f"attention_mask has no valid token in row {row}; drop that row.")


def shape_of(key: str, array) -> tuple[int, ...]:
    """The shape of an array, or of lists; ValueError where these have different lengths."""
    try:
        return np.shape(array)
    except ValueError:
        raise ValueError(
            f"{key} has rows of different lengths; pad them, with an attention_mask, as a "
            f"tokenizer does with padding=True."
        ) from None


def check_ids(examples: Sequence[Mapping[str, np.ndarray]], ranges: Mapping[str, int]) -> None:
    """Refuses texts with ids that the model does not know, which an embedding would make NaN.

    Raises:
      ValueError: one sentence that names the text, counted from 0.
    """
    for n, example in enumerate(examples):
        for key, num_values in ranges.items():
            ids = example.get(key)
            if ids is not None and len(ids) and not 0 <= ids.min() <= ids.max() < num_values:
                raise ValueError(
                    f"text {n}: {key} holds {ids.min()}..{ids.max()}, the model knows "
                    f"0..{num_values - 1}: was it made by this model's own tokenizer?"
                )


def _target_shape(ids, batch_size: int) -> tuple[int, ...]:
    shape = shape_of("decoder_input_ids", ids)
    if len(shape) != 2 or shape[0] != batch_size or shape[1] < 1:
        raise ValueError(
            f"decoder_input_ids must be [B, S] with B = {batch_size} as input_ids has it and S at "
            f"least 1; it is {list(shape)}."
        )
    return shape


def cast_inputs(batch: Mapping[str, jax.Array], ranges: Mapping[str, int]) -> dict[str, jax.Array]:
    """The inputs that the model reads: int32, and a bool mask."""
    inputs = {key: _cast(batch[key], jnp.int32) for key in ranges if key in batch}
    mask = batch.get("attention_mask")
    if mask is None:
        shape = np.shape(batch["input_ids"])
        # Of NumPy, which compiles nothing; but it knows no symbolic sizes, as jax.export has them.
        concrete = all(isinstance(n, int) for n in shape)
        mask = np.ones(shape, bool) if concrete else jnp.ones(shape, bool)
    return {**inputs, "attention_mask": _cast(mask, bool)}


def _check_array(key: str, array, shape: tuple[int, ...], num_values: int | None) -> None:
    if shape_of(key, array) != shape:
        raise ValueError(
            f"{key} must have the shape of input_ids, {list(shape)}; it is {list(np.shape(array))}."
        )
    if num_values is None:
        return
    dtype = getattr(array, "dtype", None)
    dtype = dtype if isinstance(dtype, np.dtype) else np.asarray(array).dtype  # of lists, of torch
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"{key} must be integers; they are {dtype}.")
    if is_concrete(array):
        values = np.asarray(array)  # a jax.Array's own minimum would be traced inside jit
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= num_values:
            raise ValueError(
                f"{key} holds {low}..{high}, the model knows 0..{num_values - 1}: "
                f"was it made by this model's own tokenizer?"
            )


def _cast(array, dtype) -> jax.Array:
    """On the host where it is a host array: that compiles nothing."""
    if isinstance(array, jax.Array):
        return array.astype(dtype)
    return np.asarray(array, dtype)


def is_concrete(x) -> bool:
    """Whether this process can look at the values: not traced, not spread over processes."""
    if isinstance(x, jax.core.Tracer):
        return False
    return not isinstance(x, jax.Array) or x.is_fully_addressable
