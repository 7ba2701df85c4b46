"""Token ids of labelled examples, and batches of them in few shapes."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from latadj_jax.data.labelled_examples import Examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.families.embedding import PROMPT
from latadj_jax.model.buckets import bucket_of, default_buckets, length_of, pad
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import encode
from latadj_jax.serving.requests import first_tokens, prompt_length
from latadj_jax.tasks.embedding import SECOND, halves


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
    data: "Encoded",
    indices: np.ndarray,
    bucket: int,
    batch_size: int,
    own: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The batch of the examples at `indices`, with `labels` [B, ...] and `weights` float32 [B].

    A short batch is filled up to `batch_size` with its first example at weight 0, so that every
    batch of a bucket has one shape; of its rows only those in `own` are made, if given. Labels of
    tokens are cut to the bucket, and those of targets to the bucket of the longest in the batch.
    """
    rows = np.concatenate([indices, np.repeat(indices[:1], batch_size - len(indices))])
    weights = (np.arange(batch_size) < len(indices)).astype(np.float32)
    labels = data.labels[rows]
    if data.labels_of == "token":
        labels = labels[:, :bucket]
    elif data.labels_of == "target":
        longest = int((labels >= 0).sum(axis=1).max())
        labels = labels[:, : bucket_of(longest, default_buckets(labels.shape[1]))]
    own = np.arange(batch_size) if own is None else own
    batch = pad([data.examples[i] for i in rows[own]], bucket)
    return {**batch, "labels": labels[own], "weights": weights[own]}


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of each example, unpadded, and its labels.

    Attributes:
      labels: [N] or [N, ...].
      labels_of: what they are of: the "text" as a whole; each "token", [N, T, ...] with T at least
        the longest bucket (int32 -1 where there is none); or the tokens of a "target", int32 [N, S]
        with -1 after their ends.
    """

    examples: list[dict[str, np.ndarray]]
    labels: np.ndarray
    labels_of: str = "text"

    @property
    def one_by_one(self) -> "Encoded":
        """The texts alone, each by itself: of two that are read one by one, one after the other."""
        texts = [text for example in self.examples for text in halves(example) if text]
        if len(texts) == len(self.examples):
            return self
        return Encoded(texts, np.full(len(texts), np.nan, np.float32))

    def read_by(self, model: Model) -> "Encoded":
        """What the model reads of it: a tokenizer may make token types that it has no use for."""
        names = {prefix + name for prefix in ("", SECOND) for name in model.input_ranges}
        examples = [
            {name: ids for name, ids in example.items() if name in names}
            for example in self.examples
        ]
        return dataclasses.replace(self, examples=examples)

    @property
    def lengths(self) -> list[int]:
        """Of each example: of the longer of two texts that are read one by one."""
        return [length_of(example) for example in self.examples]

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
            yield indices, collate(self, indices, bucket, batch_size)

    def groups(self, buckets: Sequence[int], batch_size: int) -> list[tuple[np.ndarray, int]]:
        """What `batches` gives, as (indices, bucket), before anything is made."""
        return group(self.lengths, buckets, batch_size)


def encode_examples(
    tokenizer, examples: Examples, data: DataSettings, model: Model | None = None
) -> Encoded:
    """Token ids of `examples`, cut or refused at `data.max_length`.

    Args:
      model: one that reads pairs may keep tokens of the first text, which are marked for it.
    """
    marked = model is not None and model.reads_marks
    ids = encode(tokenizer, examples.texts, data.max_length, data.truncate, mark_first=marked)
    return Encoded(ids, examples.labels)


def encode_one_by_one(tokenizer, examples: Examples, data: DataSettings, model: Model) -> Encoded:
    """The same for an embedding model, which reads one text at a time: both of a pair have their
    own ids. Its default prompt, if it has one, stands before each, as the engine puts it there.

    Pairs that nobody labelled are so many texts.
    """
    prompt = model.config.embedding.prompt(None)
    asked = prompt_length(tokenizer, prompt) if prompt else 0

    def encoded(texts: Sequence[str]) -> list[dict[str, np.ndarray]]:
        prompted = [(prompt + text,) for text in texts]
        ids = encode(tokenizer, prompted, data.max_length, data.truncate)
        if asked and PROMPT in model.input_ranges:
            ids = [{**example, PROMPT: first_tokens(asked, example)} for example in ids]
        return ids

    columns = [encoded(texts) for texts in zip(*examples.texts, strict=True)]
    if np.isnan(examples.labels).all():
        texts = [text for row in zip(*columns, strict=True) for text in row]
        return Encoded(texts, np.full(len(texts), np.nan, np.float32))
    first, *seconds = columns
    for second in seconds:
        first = [
            {**a, **{f"{SECOND}{key}": ids for key, ids in b.items()}}
            for a, b in zip(first, second, strict=True)
        ]
    return Encoded(first, examples.labels)


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
    unlabelled = Encoded(examples, np.zeros(len(examples), np.int32)).one_by_one
    for _, batch in unlabelled.batches(buckets, batch_size):
        yield batch
