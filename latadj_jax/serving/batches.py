"""The batches of one call: which texts are in each, and running them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from latadj_jax.model.buckets import bucket_of
from latadj_jax.serving.programs import Shape
from latadj_jax.serving.runtime import Runtime


def batches(
    examples: Sequence[Mapping], buckets: Sequence[int], sizes: Sequence[int]
) -> Iterator[tuple[np.ndarray, int, int]]:
    """(indices, padded length, batch size): every example once, fillers few.

    Args:
      buckets, sizes: padded lengths and batch sizes that there are; 1 is among the sizes.
    """
    lengths = np.array([bucket_of(len(e["input_ids"]), buckets) for e in examples])
    for length in sorted(set(lengths.tolist())):
        rest = np.flatnonzero(lengths == length)
        while len(rest):
            size = max(size for size in sizes if size <= len(rest))
            # In place of one by one, the next larger batch if that is at least half full.
            half_full = [s for s in sizes if len(rest) < s <= 2 * len(rest)]
            if size == 1 and half_full:
                size = half_full[0]
            yield rest[:size], length, size
            rest = rest[size:]


def run_batches(
    programs: Runtime,
    examples: Sequence[Mapping[str, np.ndarray]],
    work: Sequence[tuple[np.ndarray, Shape]],
) -> list[np.ndarray]:
    """The row of each example, in order; as many batches at once as is best for the programs.

    Args:
      work: the indices of a batch's examples, and its shape.
    """
    rows: list = [None] * len(examples)

    def run(indices: np.ndarray, shape: Shape) -> None:
        found = programs.run(shape, [examples[i] for i in indices])
        for i, row in zip(indices, found, strict=True):
            rows[i] = row

    if len(work) > 1 and programs.at_once > 1:
        with ThreadPoolExecutor(programs.at_once) as pool:
            list(pool.map(run, *zip(*work, strict=True)))
    else:
        for one in work:
            run(*one)
    return rows
