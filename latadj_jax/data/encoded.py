"""Token ids of labelled examples, and batches of them in few shapes."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from latadj_jax.data.labelled_examples import Examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.model.buckets import bucket_of, default_buckets, pad
from latadj_jax.pretrained.tokenizers import encode


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


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of each example, unpadded, and its labels [N], or [N, ...] as `collate` says."""

    examples: list[dict[str, np.ndarray]]
    labels: np.ndarray

    def fingerprint(self) -> str:
        """A checksum of all tokens and labels, in their order."""
        digest = hashlib.sha256()
        for example, label in zip(self.examples, self.labels, strict=True):
            for name, ids in sorted(example.items()):
                digest.update(f"{name} {ids.shape} {ids.dtype}".encode() + ids.tobytes())
            label = np.asarray(label)
            digest.update(f"{label.shape} {label.dtype}".encode() + label.tobytes())
        return digest.hexdigest()

    def batches(
        self, buckets: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Every example once, in batches of few shapes: (indices, batch); fillers weigh 0."""
        for indices, bucket in self.groups(buckets, batch_size):
            yield indices, collate(self.examples, self.labels, indices, bucket, batch_size)

    def groups(self, buckets: Sequence[int], batch_size: int) -> list[tuple[np.ndarray, int]]:
        """What `batches` gives, as (indices, bucket), before anything is made."""
        lengths = [len(example["input_ids"]) for example in self.examples]
        return group(lengths, buckets, batch_size)


def encode_examples(tokenizer, examples: Examples, data: DataSettings) -> Encoded:
    """Token ids of `examples`, cut or refused at `data.max_length`."""
    ids = encode(tokenizer, examples.texts, data.max_length, data.truncate)
    return Encoded(ids, examples.labels)


def buckets_of(data: DataSettings, count: str) -> tuple[int, ...]:
    """Padded lengths of a run; one only where counts follow the padded length."""
    if count == "padded":
        return (data.max_length,)
    buckets = data.buckets or default_buckets(data.max_length)
    return tuple(sorted({*buckets, data.max_length}))


def calibration_batches(
    examples: list[dict[str, np.ndarray]], buckets: Sequence[int], batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Batches for `calibrate`, which needs no labels."""
    unlabelled = Encoded(examples, np.zeros(len(examples), np.int32))
    for _, batch in unlabelled.batches(buckets, batch_size):
        yield batch
