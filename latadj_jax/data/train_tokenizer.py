"""Byte-level BPE tokenizers trained on a text."""

import pathlib
from collections.abc import Iterable, Sequence

from latadj_jax.errors import DataError

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(text: str, vocab_size: int, folder: str | pathlib.Path | None = None):
    """A byte-level BPE tokenizer like GPT-2's, trained on `text`; saved to `folder`, if given.

    Of its `vocab_size` tokens 256 are the bytes and one is "<|endoftext|>" (id 0: begin, end and
    unknown). The same text gives the same tokenizer. A short text may give fewer tokens than asked
    for: a pair of tokens is merged only if it occurs twice.

    Raises:
      DataError: a vocabulary that cannot hold the bytes.
    """
    from transformers import PreTrainedTokenizerFast  # slow to import

    bpe = byte_level_bpe((line + "\n" for line in text.split("\n")), vocab_size, (END_OF_TEXT,))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **special)
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer


def byte_level_bpe(texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str]):
    """A `tokenizers.Tokenizer` of `vocab_size` tokens, `special_tokens` first, then the bytes.

    Raises:
      DataError: a vocabulary that cannot hold them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    least = 256 + len(special_tokens)
    if vocab_size < least:
        raise DataError(
            f"vocab_size must be at least {least}, 256 of them bytes; it is {vocab_size}."
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe
