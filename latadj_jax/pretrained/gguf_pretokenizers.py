"""How byte-level vocabularies cut a text into words before they merge bytes, by llama.cpp's names.

The rules are those of the publishers' tokenizer.json, as transformers uses them. Where llama.cpp's
regular expressions differ, theirs are approximations:

  "tekken", "gpt-4o": upper and lower case are told apart for all letters, not for ASCII alone.
  "deepseek-llm": digits stand alone; llama.cpp keeps a number whole.
  "qwen2", "command-r": the text is brought to Unicode's form NFC first.

"default" is llama.cpp's own, for files that name no rule. What llama.cpp calls clean_spaces (no
space before punctuation in decoded text) is left out, as transformers leaves it out: decoding
gives the text back as it was.

Source: llama.cpp's llama-vocab.cpp for names and flags; the tokenizer.json of Llama 3, Qwen2,
Mistral NeMo, GPT-4o, DeepSeek LLM and Coder, Command-R and StarCoder.
"""

import logging
from typing import NamedTuple

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf_file import Header

log = logging.getLogger(__name__)

KEY = "tokenizer.ggml.pre"

DIGITS = r"\p{N}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTION}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The letters that have cases, of an older Unicode; written by number, since some of them (Kelvin,
# Ohm) are made other ones by editors that normalize.
DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_MARKS = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
DEEPSEEK_ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


class Rule(NamedTuple):
    """A text is cut by each of `splits` in turn: what matches is a word, so is what is between.

    Attributes:
      nfc: whether the text is brought to Unicode's form NFC before.
      ignore_merges: whether a word that is in the vocabulary needs no merges.
      add_bos: whether a text begins with the first token, where the file does not say.
    """

    names: tuple[str, ...]
    splits: tuple[str, ...]
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False


RULES = (
    Rule(("default",), (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    Rule(("gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "jais", "trillion",
          "granite-docling"), (GPT2,)),
    Rule(("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"),
         (DIGITS, GPT2)),
    Rule(("command-r",), (DIGITS, GPT2), nfc=True),
    Rule(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
         (LLAMA3,), ignore_merges=True, add_bos=True),
    Rule(("dbrx", "smaug-bpe"), (LLAMA3,)),
    Rule(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"), (QWEN2,), nfc=True),
    Rule(("tekken",), (TEKKEN,), ignore_merges=True, add_bos=True),
    Rule(("gpt-4o", "llama4", "kanana2", "talkie"), (GPT4O,)),
    Rule(("deepseek-llm",), ("[\r\n]", rf"\s?[{DEEPSEEK_LETTERS}]+", rf"\s?[{DEEPSEEK_MARKS}]+",
                             r"\s+$", DEEPSEEK_ASIAN, DIGITS)),
    Rule(("deepseek-coder",), ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_ASIAN, DIGITS)),
)  # fmt: skip
BY_NAME = {name: rule for rule in RULES for name in rule.names}


def find_rule(header: Header) -> Rule:
    """The rule that the file names; llama.cpp's "default", logged, where it names none.

    Raises:
      GGUFError: a rule that is not implemented.
    """
    pre = header.metadata.get(KEY)
    if not pre:
        pre = "default"
        log.warning(
            "%s lacks %s: texts are cut by llama.cpp's rule 'default', which may not be that of "
            "the model's training; convert it again.", header.file, KEY,
        )  # fmt: skip
    if pre not in BY_NAME:
        raise GGUFError(
            f"{header.file}: pre-tokenizer {pre!r} is not implemented; implemented are "
            f"{', '.join(BY_NAME)}."
        )
    return BY_NAME[pre]


def pre_tokenizer(rule: Rule):
    """The rule as a tokenizers.PreTokenizer, which also writes bytes as GPT-2's characters."""
    from tokenizers import Regex, pre_tokenizers

    # Digits as such, as the published files have them: its Unicode is newer than that of Regex.
    digits = pre_tokenizers.Digits(individual_digits=True)
    cuts = [
        digits if split == DIGITS else pre_tokenizers.Split(Regex(split), "isolated")
        for split in rule.splits
    ]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, byte_level])
