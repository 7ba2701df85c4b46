"""Texts of the harness's requests as token ids.

A continuation is scored after the special tokens that the tokenizer puts in front of a context, and
never after those that it appends.
"""

import dataclasses
import json
from typing import Any

from latadj_jax.families.hf_config import HfConfig
from latadj_jax.pretrained.tokenizers import encode_text

Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class RequestEncoder:
    """The token ids of a model's contexts and continuations.

    Source: `TemplateLM._encode_pair` and `HFLM.tok_encode` of lm-evaluation-harness 0.4.13. They
    leave a [SEP] or </s> that the tokenizer appends between a context and its continuation, and
    lose a continuation that shares a token with its context; this encoder does not.

    Attributes:
      tokenizer: of transformers.
      vocab_size: the model's; a text with an id that it does not have is refused.
      front: ids in front of each context, e.g. of [CLS] or <s>. A text that begins with them, as
        chat templates write it, gets no second ones.
      back: ids after each context: a T5's </s>.
      start: ids in place of a context without any; () where there is no token for it.
      seq2seq: whether a continuation is a text of its own, as a T5's target is.
    """

    tokenizer: Any
    vocab_size: int
    front: Ids
    back: Ids
    start: Ids
    seq2seq: bool

    @classmethod
    def of(
        cls, tokenizer, config: HfConfig, seq2seq: bool, add_bos_token: bool | None
    ) -> "RequestEncoder":
        """The encoder of one tokenizer and one model.

        Args:
          add_bos_token: None puts in front what the tokenizer does, False nothing, and True the BOS
            token, too, where the tokenizer does not.

        Raises:
          ValueError: add_bos_token without a BOS token.
        """
        own, back = added_tokens(tokenizer)
        hf_bos = json.loads(config.hf).get("bos_token_id")
        hf_bos = hf_bos if isinstance(hf_bos, int) and 0 <= hf_bos < config.vocab_size else None
        bos = hf_bos if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if add_bos_token and bos is None:
            raise ValueError(
                "add_bos_token=True needs a BOS token, and neither the tokenizer nor config.json "
                "names one: set bos_token in tokenizer_config.json."
            )
        front = () if add_bos_token is False else own
        if add_bos_token and bos not in own:
            front = (bos, *own)
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, hf_bos, *config.eos_tokens)
        start = front or tuple(token for token in starts if token is not None)[:1] or own
        return cls(tokenizer, config.vocab_size, front, back if seq2seq else (), start, seq2seq)

    def ids(self, text: str) -> Ids:
        """Ids of a text without special tokens around it.

        Raises:
          ValueError: a token that the model does not know.
        """
        return self._known(text, tuple(encode_text(self.tokenizer, text).tolist()))

    def context(self, text: str) -> Ids:
        """Ids of a context, or of the start token where it has none.

        Raises:
          ValueError: a token that the model does not know, or no token for an empty context.
        """
        return self._context(text, self.ids(text))

    def pair(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """Ids of a context, and of the continuation after it.

        White space that ends the context goes to the continuation. A causal model's continuation
        has the ids that follow the context's in both texts together. Where these do not begin with
        the context's ids, or end with them (a token spans the border), the continuation is encoded
        on its own. After an empty context, a continuation that begins with the start token is
        scored after that one.

        Raises:
          ValueError: as `context`; a continuation without tokens.
        """
        stripped = context.rstrip()
        context, continuation = stripped, context[len(stripped) :] + continuation
        before = self.ids(context)
        after = () if self.seq2seq else _following(before, self.ids(context + continuation))
        after = after or self.ids(continuation)
        before = self._context(context, before)
        if not context and len(after) > len(before):
            after = _following(before, after) or after
        if not after:
            raise ValueError(
                f"the continuation {continuation[:40]!r} has no tokens of its own: it must not be "
                f"empty."
            )
        return before, after

    def _context(self, text: str, ids: Ids) -> Ids:
        own = ids[: len(self.front)] == self.front
        ids = (*(() if own else self.front), *ids, *self.back) or self.start
        if not ids:
            raise ValueError(
                "an empty context needs a BOS or EOS token in its place, and neither the tokenizer "
                "nor config.json names one: give a context, or set bos_token in "
                "tokenizer_config.json (add_bos_token cannot help)."
            )
        return self._known(text, ids)

    def _known(self, text: str, ids: Ids) -> Ids:
        unknown = next((n for n in ids if n >= self.vocab_size), None)
        if unknown is not None:
            raise ValueError(
                f"the text that begins with {text[:40]!r} has the token "
                f"{self.tokenizer.convert_ids_to_tokens(unknown)!r} of id {unknown}, the model "
                f"knows 0..{self.vocab_size - 1}: leave it out, or use the model's own tokenizer."
            )
        return ids


def added_tokens(tokenizer) -> tuple[Ids, Ids]:
    """What a tokenizer puts in front of a text, and what it appends: [CLS] and [SEP] for BERT's.

    Raises:
      ValueError: a tokenizer whose special tokens stand elsewhere.
    """
    for probe in ("a", *tokenizer.get_vocab()):
        try:
            text, whole = (tokenizer.encode(probe, add_special_tokens=add) for add in (False, True))
        except Exception:  # of tokenizers, bare: it lacks a character, and has no [UNK]
            continue
        places = range(len(whole) - len(text) + 1)
        found = [n for n in places if whole[n : n + len(text)] == text]
        if len(found) == 1:  # else the text has no tokens, or is what stands around it
            return tuple(whole[: found[0]]), tuple(whole[found[0] + len(text) :])
    raise ValueError("the tokenizer does not put its special tokens before or after a text.")


def _following(before: Ids, whole: Ids) -> Ids:
    """What follows `before` in `whole`; () where it does not begin with it."""
    return whole[len(before) :] if whole[: len(before)] == before else ()
