"""A model's tokenizer from one GGUF file, without torch."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf_file import Header, read_header
from latadj_jax.pretrained.gguf_pretokenizers import Rule, find_rule, pre_tokenizer
from latadj_jax.pretrained.gguf_token_ids import TOKENS, end_ids, token_id
from latadj_jax.pretrained.sources import reason

log = logging.getLogger(__name__)

SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # in tokenizer.ggml.token_type


def read_tokenizer(file: str | Path):
    """The file's tokenizer, a transformers.PreTrainedTokenizerFast, with its chat template.

    Read are byte-level vocabularies (tokenizer.ggml.model "gpt2") with the pre-tokenizers of
    `gguf_pretokenizers`, and SentencePiece's BPE ("llama"), as the published tokenizer.json of
    Llama 2 and Gemma do it. A token that ends a generation is taken whole, whatever its type.

    Raises:
      GGUFError: as `gguf_file.read_header`; another kind of tokenizer, or a vocabulary that is
        broken.
    """
    from tokenizers import AddedToken  # slow to import, as transformers is
    from transformers import PreTrainedTokenizerFast

    header = read_header(file)
    data, model = header.metadata, header.need("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise GGUFError(f"{file}: tokenizer {model!r} is not implemented; 'gpt2' and 'llama' are.")
    try:
        tokens = _tokens(header)
        kinds = _kinds(header, tokens)
        if model == "gpt2":
            rule = find_rule(header)
            backend, adds_bos = _byte_level(header, tokens, rule), rule.add_bos
        else:
            backend, adds_bos = _sentencepiece(header, tokens, kinds), True
        added = [
            AddedToken(token, normalized=False, special=kind == CONTROL)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
        ids = {name: token_id(header, key) for name, key in SPECIAL_TOKENS.items()}
    except GGUFError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise GGUFError(f"{file}: the tokenizer is broken ({reason(error)}).") from None
    backend.add_tokens(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        add_bos_token=_is_added(header, "bos", adds_bos, ids["bos"]),
        add_eos_token=_is_added(header, "eos", False, ids["eos"]),
        chat_template=data.get("tokenizer.chat_template"),
        model_max_length=header.size("context_length"),
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": tokens[n] for name, n in ids.items() if n is not None},
    )


def _tokens(header: Header) -> list[str]:
    """The vocabulary; an empty token gets a name, as in llama.cpp."""
    tokens = [token or f"[EMPTY_{n}]" for n, token in enumerate(header.need(TOKENS))]
    if len(set(tokens)) < len(tokens):
        token = Counter(tokens).most_common(1)[0][0]
        raise GGUFError(f"{header.file}: {TOKENS} holds {token!r} more than once.")
    return tokens


def _kinds(header: Header, tokens: list[str]) -> list[int]:
    """The type of each token; what ends a generation is of type CONTROL."""
    kinds = _for_each(header, "tokenizer.ggml.token_type", tokens)
    kinds = [NORMAL] * len(tokens) if kinds is None else kinds
    ends = [n for n in end_ids(header) if kinds[n] != CONTROL]
    if ends:
        log.warning(
            "%s: these tokens end a generation and are taken as control tokens, which they are "
            "not by tokenizer.ggml.token_type: %s", header.file, [tokens[n] for n in ends],
        )  # fmt: skip
    for n in ends:
        kinds[n] = CONTROL
    return kinds


def _for_each(header: Header, key: str, tokens: list[str]) -> list[Any] | None:
    """A value for each token; None where the key is absent."""
    if key not in header.metadata:
        return None
    values = header.metadata[key]
    if len(values) < len(tokens):
        raise GGUFError(
            f"{header.file}: {key} has {len(values)} values for {len(tokens)} tokens; convert it "
            "again."
        )
    return values[: len(tokens)]


def _is_added(header: Header, name: str, default: bool, token: int | None) -> bool:
    """Whether a text begins or ends with that token."""
    key = f"tokenizer.ggml.add_{name}_token"
    add = bool(header.metadata.get(key, default))
    if add and token is None:
        log.warning(
            "%s: %s is true, but there is no tokenizer.ggml.%s_token_id; nothing is added.",
            header.file, key, name,
        )  # fmt: skip
    return add and token is not None


def _byte_level(header: Header, tokens: list[str], rule: Rule):
    from tokenizers import Tokenizer, decoders, models, normalizers

    merges = [tuple(pair.split(" ", 1)) for pair in header.need("tokenizer.ggml.merges")]
    vocab = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab, merges, ignore_merges=rule.ignore_merges))
    if rule.nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizer(rule)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(header: Header, tokens: list[str], kinds: list[int]):
    """SentencePiece merges the pair that gives the best-scored token; here merges are ranked so."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    ids = {token: i for i, token in enumerate(tokens)}
    header.need("tokenizer.ggml.scores")
    scores = _for_each(header, "tokenizer.ggml.scores", tokens)
    merges = [
        (-scores[i], ids[token[:cut]], ids[token[cut:]])
        for i, token in enumerate(tokens)
        if kinds[i] == NORMAL
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    merges = [(tokens[left], tokens[right]) for _, left, right in sorted(merges)]
    unknown = tokens[token_id(header, "unknown") or 0]
    backend = Tokenizer(
        models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    space = [normalizers.Replace(" ", "▁")]
    undo = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if header.metadata.get("tokenizer.ggml.add_space_prefix", True):
        space.insert(0, normalizers.Prepend("▁"))
        undo.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(space)
    backend.decoder = decoders.Sequence(undo)
    return backend
