"""What ends a generated text: tokens, and texts that are left out of it."""

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from latadj_jax.families.hf_config import HfConfig
from latadj_jax.pretrained.tokenizers import end_tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Stops:
    """The first of any of these ends a text.

    Source: `HFLM.generate_until` of lm-evaluation-harness 0.4.13, whose texts these are, too.

    Attributes:
      tokenizer: of transformers.
      tokens: ids of the model: the end tokens of its config, the tokenizer's EOS token, and added
        tokens that `until` names.
      texts: those of `until`, and the EOS token's. They are looked for in the text with its special
        tokens ("<|im_end|>\\n").
    """

    tokenizer: Any
    tokens: tuple[int, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer, config: HfConfig, until: Sequence[str | None]) -> "Stops":
        """The stops of a request; an empty text or None in `until` stops nothing.

        Raises:
          ValueError: something else than texts in `until`.
        """
        texts = [text for text in until if text is not None]
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(f"until must be a text or a list of texts; it holds {wrong[0]!r}.")
        added = tokenizer.get_added_vocab()
        named = [
            added[text] for text in texts if added.get(text, config.vocab_size) < config.vocab_size
        ]
        if tokenizer.eos_token_id is not None:
            texts.append(tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=False))
        tokens = dict.fromkeys((*end_tokens(tokenizer, config), *named))
        return cls(tokenizer, tuple(tokens), tuple(filter(None, texts)))

    def reached(self, rows_BS: np.ndarray) -> bool:
        """Whether every row has ended."""
        ended_B = np.isin(rows_BS, self.tokens).any(axis=1)
        return all(self._has_text(row_S.tolist()) for row_S in rows_BS[~ended_B])

    def text_of(self, row: Sequence[int]) -> str:
        """The text of generated ids up to the first stop, without special tokens."""
        ends = [n for n, token in enumerate(row) if token in self.tokens]
        row = list(row[: ends[0] + 1] if ends else row)
        if self._has_text(row):
            sizes = range(1, len(row) + 1)
            row = row[: 1 + bisect.bisect(sizes, False, key=lambda n: self._has_text(row[:n]))]
        text = self.tokenizer.decode(row, skip_special_tokens=True)
        for stop in self.texts:
            text = text.split(stop)[0]
        return text

    def _has_text(self, row: list[int]) -> bool:
        text = self.tokenizer.decode(row, skip_special_tokens=False)
        return any(stop in text for stop in self.texts)
