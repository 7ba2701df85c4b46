"""Examples whose answer lies far back in their context: last words (LAMBADA), and facts planted in
a long text (passkey retrieval, the needle in a haystack)."""

import pathlib

import numpy as np

from latadj_jax.data.text_files import a_string, json_records, read_text
from latadj_jax.errors import DataError
from latadj_jax.pretrained.tokenizers import encode_text


def load_last_words(path: str | pathlib.Path) -> list[tuple[str, str]]:
    """(context, last word) of each object of a LAMBADA-style JSON file.

    There is one in each line, or an array of them. An object has a "text", whose last word is the
    target, or a "context" and a "target" (or "word"). The white space between the two is in
    neither.

    Raises:
      DataError: file and row of what is not JSON, has other keys, or lacks a word or its context.
    """
    path, examples = pathlib.Path(path), []
    for row, record in json_records(path.name, read_text(path)):
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
    if not examples:
        raise DataError(f"{path.name} holds no examples.")
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
