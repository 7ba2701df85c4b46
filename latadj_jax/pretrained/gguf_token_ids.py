"""The special tokens of a GGUF file's vocabulary, and which of them end a generation."""

import logging

from latadj_jax.pretrained.gguf_file import Header

log = logging.getLogger(__name__)

TOKENS = "tokenizer.ggml.tokens"

# In whatever vocabulary these tokens are, they end a generation: most files name one end alone.
# Source: special_eog_ids of llama.cpp's llama-vocab.cpp.
ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
})  # fmt: skip
# So do, of code models, the ends of a filled-in middle, of a repository and of a file: the token
# under the key, else the first of these that is there.
CODE_ENDS = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
# What a SentencePiece vocabulary has without keys.
SENTENCEPIECE = {"bos": 1, "eos": 2, "unknown": 0}


def token_id(header: Header, name: str) -> int | None:
    """The id under tokenizer.ggml.{name}_token_id; one outside of the vocabulary is as if absent.

    Where it is absent: llama.cpp's default for SentencePiece, else None. Both are logged.
    """
    key = f"tokenizer.ggml.{name}_token_id"
    data, value = header.metadata, header.metadata.get(key)
    is_default = data.get("tokenizer.ggml.model") == "llama" and name in SENTENCEPIECE
    if value is None and not is_default:
        return None
    size = len(data.get(TOKENS, ())) or header.size("vocab_size")
    if isinstance(value, int) and 0 <= value < size:
        return value
    if value is not None:
        log.warning(
            "%s: %s is %r, which is none of the vocabulary's %d tokens; it is ignored.",
            header.file, key, value, size,
        )  # fmt: skip
    if not is_default or SENTENCEPIECE[name] >= size:
        return None
    log.warning("%s: as %s is taken %d, as in llama.cpp.", header.file, key, SENTENCEPIECE[name])
    return SENTENCEPIECE[name]


def end_ids(header: Header) -> list[int]:
    """Ids that end a generation: end of text, of turn and of message by key, then, by id, those of
    CODE_ENDS and those known by their text. What is known by its text alone is logged."""
    by_key = [token_id(header, name) for name in ("eos", "eot", "eom", *CODE_ENDS)]
    wanted = ENDS.union(*CODE_ENDS.values())
    tokens = header.metadata.get(TOKENS, ())
    ids = {token: n for n, token in enumerate(tokens) if token in wanted}
    found = {token for token in ids if token in ENDS}
    if found & {"<|call|>", "<|calls|>"} and found & {"<|return|>", "<|flush|>"}:
        found.discard("<|end|>")  # of GPT-OSS's and Solar's vocabularies: it ends a part of a turn
    if found & {"<|tool_response>", "<end_of_turn>"}:
        found.discard("</s>")  # of Gemma's: it ends struck-out text in HTML
    for key_id, texts in zip(by_key[3:], CODE_ENDS.values(), strict=True):
        if key_id is None:
            found.update([text for text in texts if text in ids][:1])
    by_text = {ids[token] for token in found}
    others = by_text.union(n for n in by_key[3:] if n is not None)
    if guessed := sorted(by_text.difference(by_key)):
        log.info(
            "%s: by their text these end a generation too: %s",
            header.file, [tokens[n] for n in guessed],
        )  # fmt: skip
    return list(dict.fromkeys([n for n in by_key[:3] if n is not None] + sorted(others)))
