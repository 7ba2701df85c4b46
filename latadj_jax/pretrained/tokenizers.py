"""Tokenizers of checkpoints, and texts as token ids."""

import contextlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latadj_jax.errors import ConfigError, DataError, TextError
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.families.pooling import Embedding
from latadj_jax.pretrained import sources
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.pair_template import with_pair_template
from latadj_jax.pretrained.sentence_transformers import read_layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.model")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *_SENTENCEPIECE_FILES)

_SURROGATE = re.compile("[\ud800-\udfff]")


def load_tokenizer(source: str) -> "PreTrainedTokenizerBase":
    """Loads the Hugging Face tokenizer of a source, as `from_pretrained` takes it; needs no torch.

    Where a reranker's chat template writes pairs out, the tokenizer does so (pair_template.py).

    Raises:
      DataError: no tokenizer files, or broken ones.
    """
    path = sources.resolve(source)
    if path.suffix.lower() == ".gguf":
        return read_tokenizer(path)
    layout = read_layout(path)  # of sentence-transformers
    folder = layout.transformer if layout else path
    from transformers import AutoTokenizer  # slow to import

    has_files = any((folder / file).is_file() for file in _TOKENIZER_FILES)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        if not has_files:
            raise _no_tokenizer(source) from None
        if _needs_sentencepiece(folder):  # transformers asks for tiktoken
            raise DataError(
                f"The tokenizer of {source!r} is a file of SentencePiece's: pip install "
                f"sentencepiece protobuf."
            ) from None
        raise DataError(
            f"The tokenizer of {source!r} cannot be read ({sources.reason(error)})."
        ) from None
    # Some need no file, as ByT5's; of others transformers makes an empty one, silently, where it
    # finds no vocabulary.
    if not _has_words(tokenizer):
        raise _no_tokenizer(source)
    if layout:
        _set_up(tokenizer, layout.embedding)
        return tokenizer
    return with_pair_template(folder, tokenizer)


def _set_up(tokenizer, embedding: Embedding) -> None:
    """As sentence-transformers reads texts: cut at its length, and in lower case if it says so."""
    if embedding.max_length is not None:
        tokenizer.model_max_length = embedding.max_length
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if embedding.lower_case and backend is not None:
        from tokenizers import normalizers

        others = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])


def _no_tokenizer(source: str) -> DataError:
    return DataError(
        f"{source!r} has no tokenizer; needed is one of: {', '.join(_TOKENIZER_FILES)}, or a "
        "tokenizer_config.json that names a class which needs none."
    )


def _needs_sentencepiece(folder: Path) -> bool:
    """Whether there is nothing else to read, as in microsoft/deberta-v3-base, and it is missing."""
    found = [file for file in _TOKENIZER_FILES if (folder / file).is_file()]
    missing = importlib.util.find_spec("sentencepiece") is None
    return missing and {*found} <= {*_SENTENCEPIECE_FILES}


def _has_words(tokenizer) -> bool:
    """Whether it knows more than special tokens, added ones and the mark of a space."""
    none = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab(), "▁"}
    return bool(set(tokenizer.get_vocab()) - none)


def end_tokens(tokenizer, config) -> tuple[int, ...]:
    """Lists the ids that end a text: those of the model's config, and the tokenizer's own.

    Pass them to `generate` as `stop_tokens`.
    """
    ends = (*config.eos_tokens, tokenizer.eos_token_id)
    return tuple(dict.fromkeys(n for n in ends if n is not None and n < config.vocab_size))


def eos_token_id(folder: Path) -> int | None:
    """The end of text of a folder's tokenizer, as its JSON files say; the tokenizer is not read."""
    about, special = (
        _read_or_nothing(folder / f"{name}.json")
        for name in ("tokenizer_config", "special_tokens_map")
    )
    name = about.get("eos_token") or special.get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    return token_ids(folder).get(name) if isinstance(name, str) else None


def token_ids(folder: Path) -> dict[str, int]:
    """The vocabulary of a folder's tokenizer, as its JSON files say; the tokenizer is not read."""
    names = ("tokenizer_config", "tokenizer", "added_tokens")
    files = [_read_or_nothing(folder / f"{name}.json") for name in names]
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        return _vocabulary(*files)
    return {}  # of files that are broken, which their reader will say


def _vocabulary(about: dict, whole: dict, added: dict) -> dict[str, int]:
    vocab = (whole.get("model") or {}).get("vocab") or {}
    if isinstance(vocab, list):  # of a Unigram: pairs of token and score
        vocab = {token: n for n, (token, _) in enumerate(vocab)}
    return {
        **vocab,
        **added,
        **{token["content"]: token["id"] for token in whole.get("added_tokens") or ()},
        **{t["content"]: int(n) for n, t in (about.get("added_tokens_decoder") or {}).items()},
    }


def _read_or_nothing(file: Path) -> dict:
    """Its object; an empty one where it is missing or broken, which its reader will say."""
    try:
        return read_json(file)
    except ConfigError:
        return {}


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which is no character and has no token.

    They come from JSON that was cut inside of an emoji, and from arguments that are no UTF-8.
    """
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode(
    tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    truncate: bool,
    setting: str = "max_length",
    numbers: Sequence[int] | None = None,
    mark_first: bool = False,
) -> list[dict[str, np.ndarray]]:
    """Token ids of each text or pair: `input_ids` and, if the tokenizer has them, `token_type_ids`.

    Each is int32 [length], special tokens included, not padded. With `truncate`, texts are cut to
    `max_length` tokens (the longer one of a pair first). Errors call each text by its number in
    `numbers`, or by its place. With `mark_first`, the tokens of the first text that are left are
    marked as PROTECTED.

    Raises:
      DataError: a text of more than `max_length` tokens without `truncate`, one of no tokens, or
        one with a character that the tokenizer does not know; marks that the tokenizer cannot tell.
    """
    if not texts:
        return []
    if mark_first:
        check_fast(tokenizer, "protected tokens")
    texts = [tuple(map(without_surrogates, text)) for text in texts]
    numbers = range(len(texts)) if numbers is None else numbers
    options = {"truncation": truncate, "max_length": max_length if truncate else None,
               "return_attention_mask": False, "verbose": False}  # fmt: skip
    try:
        encoded = tokenizer(*(list(column) for column in zip(*texts, strict=True)), **options)
    except Exception as error:  # bare, of one that lacks a character and has no unknown token
        raise unread(lambda text: tokenizer(*text, **options), texts, numbers) or error from None
    examples = inputs_of(encoded, texts, max_length, setting, numbers)
    if mark_first:
        for n, example in enumerate(examples):
            example[PROTECTED] = of_first_text(encoded.sequence_ids(n))
    return examples


def of_first_text(sequence_ids: Sequence[int | None]) -> np.ndarray:
    """1 for the tokens of a pair's first text, 0 for the second's and special ones: int32 [length].

    Args:
      sequence_ids: as a fast tokenizer gives them: 0, 1 or None.
    """
    return np.array([int(number == 0) for number in sequence_ids], np.int32)


def check_fast(tokenizer, need: str) -> None:
    """Raises DataError for a tokenizer that does not say which text its tokens are of."""
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{type(tokenizer).__name__} does not say where in a text its tokens stand; {need} "
            f"need a fast tokenizer, with a tokenizer.json."
        )


def inputs_of(
    encoded,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    setting: str,
    numbers: Sequence[int],
) -> list[dict[str, np.ndarray]]:
    """What a tokenizer gave, as arrays of each text; the rest is as of `encode`."""
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    if lengths.max() > max_length:
        too_long = np.flatnonzero(lengths > max_length)
        first = int(too_long[0])
        begins = next(filter(None, (text.strip()[:40] for text in texts[first])), "")
        raise DataError(
            f"{len(too_long)} of {len(texts)} texts are longer than config.data.{setting} "
            f"({max_length} tokens): the longest has {lengths.max()}, the first is example "
            f"{numbers[first]} (from 0), which begins with {begins!r}; raise it, or set "
            f"config.data.truncate=True to cut them."
        )
    if not lengths.all():
        n = numbers[int(lengths.argmin())]
        raise TextError(n, "has no tokens.", f"Example {n} (from 0)")
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    columns = [[np.array(ids, np.int32) for ids in encoded[key]] for key in keys]
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def unread(
    read: Callable[[tuple[str, ...]], Any], texts, numbers: Sequence[int]
) -> TextError | None:
    """What is wrong with the first of the texts that a tokenizer cannot read."""
    for n, text in zip(numbers, texts, strict=True):
        try:
            read(text)
        except Exception as error:
            what = f"cannot be read by its tokenizer ({sources.reason(error)})."
            return TextError(n, what, f"Example {n} (from 0)")
    return None


def encode_text(tokenizer, text: str) -> np.ndarray:
    """The text as one stream of token ids, int32 [n], without special tokens around it.

    Encoded whole, since no cut is harmless for every tokenizer ("\\n\\n" may be one token, and
    some put a space before whatever they are given).
    """
    encoded = tokenizer(
        without_surrogates(text), add_special_tokens=False, return_attention_mask=False,
        verbose=False,  # no warning that a whole corpus is longer than a model's input
    )  # fmt: skip
    return np.array(encoded["input_ids"], np.int32)
