"""A batch's inputs: the checks that come before any compilation, and their dtypes."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.errors import TextError

PASSENGERS = ("labels", "weights")  # may travel in a batch; the model does not read them


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
    check_fits(shape[1], max_positions, f"input_ids is {shape[1]} tokens long", "truncate it")
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


def check_ids(
    examples: Sequence[Mapping[str, np.ndarray]],
    ranges: Mapping[str, int],
    called: Callable[[int], str] = "text {}".format,
) -> None:
    """Refuses texts with ids that the model does not know, which an embedding would make NaN.

    A tokenizer may have more tokens than its model, so only a text that holds one is refused.

    Args:
      called: function of a text's number, from 0, that gives what errors call it.

    Raises:
      TextError: one sentence that names the text.
    """
    for n, example in enumerate(examples):
        for key, num_values in ranges.items():
            ids = example.get(key)
            if ids is not None and len(ids) and not 0 <= ids.min() <= ids.max() < num_values:
                raise TextError(
                    n,
                    f"has {key} {ids.min()}..{ids.max()}, the model knows 0..{num_values - 1}: was "
                    f"it made by this model's own tokenizer?",
                    called(n),
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
