"""A Llama model's tokenizer from one GGUF file, without torch."""

from pathlib import Path

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf import Header, read_header
from latadj_jax.pretrained.sources import reason

PRE_TOKENIZERS = ("gpt-2", "smollm", "llama-bpe", "llama3", "llama-v3")
LLAMA3 = PRE_TOKENIZERS[2:]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # in tokenizer.ggml.token_type


def read_tokenizer(file: str | Path):
    """The file's tokenizer, a transformers.PreTrainedTokenizerFast, with its chat template.

    Read are byte-level vocabularies (tokenizer.ggml.model "gpt2") with the pre-tokenizers of GPT-2,
    SmolLM and Llama 3, and SentencePiece's BPE ("llama"), as Llama 2's published tokenizer.json
    does it.

    Raises:
      GGUFError: as `gguf.read_header`; another kind of tokenizer, or a vocabulary that is broken.
    """
    from tokenizers import AddedToken  # slow to import, as transformers is
    from transformers import PreTrainedTokenizerFast

    header = read_header(file)
    data, tokens = header.metadata, header.need("tokenizer.ggml.tokens")
    kinds = data.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    model, pre = header.need("tokenizer.ggml.model"), data.get("tokenizer.ggml.pre")
    if model not in ("gpt2", "llama"):
        raise GGUFError(f"{file}: tokenizer {model!r} is not implemented; 'gpt2' and 'llama' are.")
    try:
        if model == "gpt2":
            backend = _byte_level(header, tokens)
        else:
            backend = _sentencepiece(header, tokens, kinds)
        added = [
            AddedToken(token, normalized=False, special=kind == CONTROL)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
        named = {
            f"{name}_token": tokens[data[key]]
            for name, key in SPECIAL_TOKENS.items()
            if key in data
        }
    except GGUFError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise GGUFError(f"{file}: the tokenizer is broken ({reason(error)}).") from None
    backend.add_tokens(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        add_bos_token=data.get("tokenizer.ggml.add_bos_token", model == "llama" or pre in LLAMA3),
        add_eos_token=data.get("tokenizer.ggml.add_eos_token", False),
        chat_template=data.get("tokenizer.chat_template"),
        model_max_length=header.size("llama.context_length"),
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **named,
    )


def _byte_level(header: Header, tokens: list[str]):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pre = header.need("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZERS:
        raise GGUFError(
            f"{header.file}: pre-tokenizer {pre!r} is not implemented; implemented are "
            f"{', '.join(PRE_TOKENIZERS)}."
        )
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre not in LLAMA3)
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        split = pre_tokenizers.Sequence([digits, split])
    if pre in LLAMA3:
        words = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
        split = pre_tokenizers.Sequence([words, split])
    merges = [tuple(pair.split(" ", 1)) for pair in header.need("tokenizer.ggml.merges")]
    vocab = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab, merges, ignore_merges=pre in LLAMA3))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(header: Header, tokens: list[str], kinds: list[int]):
    """SentencePiece merges the pair that gives the best-scored token; here merges are ranked so."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    ids = {token: i for i, token in enumerate(tokens)}
    scores = header.need("tokenizer.ggml.scores")
    merges = [
        (-scores[i], ids[token[:cut]], ids[token[cut:]])
        for i, token in enumerate(tokens)
        if kinds[i] == NORMAL
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    merges = [(tokens[left], tokens[right]) for _, left, right in sorted(merges)]
    unknown = tokens[header.metadata.get("tokenizer.ggml.unknown_token_id", 0)]
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
