"""Pairs that a chat template writes out: how a reranker that is a language model reads them.

The template has the roles "query" and "document", and what stands around them: an instruction, the
beginning of the answer. So sentence-transformers 5.4 and later read a CrossEncoder's pairs.
"""

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from latadj_jax.errors import DataError
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.logit_score import read_logit_score
from latadj_jax.pretrained.sentence_transformers import TEXTS
from latadj_jax.pretrained.sources import reason
from latadj_jax.tasks.ranking import activation_path

ROLES = ("query", "document")


def with_pair_template(folder: Path, tokenizer):
    """The tokenizer of a folder; of a ranker whose pairs a template writes out, one that does so.

    It is so where sentence_bert_config.json says "message", and, where that says nothing, where the
    chat template names both roles.

    Raises:
      DataError: a template that is to write pairs out, and cannot.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str) or not _ranks(folder):
        return tokenizer
    said = _read(folder / TEXTS).get("modality_config")
    if said is None:
        writes = all(re.search(rf"""["']{role}["']""", template) for role in ROLES)
    else:
        writes = "message" in said
    return PairTokenizer(tokenizer) if writes else tokenizer


def _ranks(folder: Path) -> bool:
    """Whether its files say that it is a CrossEncoder."""
    config = _read(folder / "config.json")
    return read_logit_score(folder) is not None or activation_path(config) is not None


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


class PairTokenizer:
    """A tokenizer whose pairs its chat template writes out; all else is as it was.

    What is too long is cut at the document, and what the template puts after it stays.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        plain, *others = (self._ids(*pair) for pair in (("0", "0"), ("1 2", "0"), ("0", "1 2")))
        if plain in others:
            raise DataError(
                f"the chat template does not write out a pair of {' and '.join(ROLES)}; put one "
                f"that does into chat_template.jinja."
            )
        # What the template puts after both texts: the tokens that other texts leave as they are.
        pairs = zip(plain[::-1], self._ids("1 2 3 4", "1 2 3 4")[::-1], strict=False)
        self._end = plain[len(plain) - sum(1 for _ in takewhile(lambda p: p[0] == p[1], pairs)) :]
        self._around = len(plain) - 2

    def __getattr__(self, name: str):
        if name.startswith("__") or name in ("_tokenizer", "backend_tokenizer"):
            raise AttributeError(name)  # as of a tokenizer in Python, which takes pairs alone
        return getattr(self._tokenizer, name)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self._around if pair else self._tokenizer.num_special_tokens_to_add(pair)

    def __call__(self, first, second=None, **options):
        if second is None:
            return self._tokenizer(first, **options)
        if options.get("return_offsets_mapping"):
            raise DataError("a pair that a chat template writes out says no places in its texts.")
        cut = options.get("max_length") if options.get("truncation") else None
        if isinstance(first, str):
            return {"input_ids": self._cut(self._ids(first, second), cut)}
        pairs = zip(first, second, strict=True)
        return {"input_ids": [self._cut(self._ids(*pair), cut) for pair in pairs]}

    def _ids(self, query: str, document: str) -> list[int]:
        texts = zip(ROLES, (query, document), strict=True)
        messages = [{"role": role, "content": text} for role, text in texts]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # of jinja2, or that it is not installed
            raise DataError(f"the chat template cannot be used ({reason(error)}).") from None
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _cut(self, ids: list[int], length: int | None) -> list[int]:
        if length is None or len(ids) <= length:
            return ids
        return [*ids[: length - len(self._end)], *self._end]
