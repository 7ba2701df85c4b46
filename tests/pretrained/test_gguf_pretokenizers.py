"""Ids of byte-level vocabularies, beside a tokenizer built by the rules that publishers wrote."""

import json

import pytest
from tiny_gguf import TEXTS, byte_level, write

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf_pretokenizers import RULES
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer


def split(regex):
    pattern = {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def byte_level_step(use_regex):
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {**step, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


DIGITS = {"type": "Digits", "individual_digits": True}
AS_IT_IS = {"type": "Sequence", "normalizers": []}
NFC = {"type": "NFC"}
# normalizer, pre_tokenizer and ignore_merges of published tokenizer.json files. Where llama.cpp
# does otherwise, see `test_the_publishers_rules_win`.
GPT2 = (None, byte_level_step(True), False)
STARCODER = (None, sequence(DIGITS, byte_level_step(True)), False)  # Refact, SmolLM2, Granite
COMMAND_R = (NFC, sequence(DIGITS, byte_level_step(True)), False)
LLAMA3_SPLIT = split(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
LLAMA3 = (None, sequence(LLAMA3_SPLIT, byte_level_step(False)), True)
SMAUG = (*LLAMA3[:2], False)  # DBRX, too
QWEN2_SPLIT = split(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
QWEN2 = (NFC, sequence(QWEN2_SPLIT, byte_level_step(False)), False)
TEKKEN_SPLIT = split(
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
TEKKEN = (None, sequence(TEKKEN_SPLIT, byte_level_step(False)), True)
GPT4O_SPLIT = split(
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
GPT4O = (None, sequence(GPT4O_SPLIT, byte_level_step(False)), False)
ASIAN = "[一-龥ࠀ-一가-\ud7ff]+"
# Its letters, with Ohm and Kelvin by number: editors that normalize would make others of them.
DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
    "Ὀ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄ"
    "Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
DEEPSEEK_LLM = (
    AS_IT_IS,
    sequence(
        split("[\r\n]"),
        split(f"\\s?[{DEEPSEEK_LETTERS}]+"),
        split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
        split("\\s+$"),
        split(ASIAN),
        DIGITS,
        byte_level_step(False),
    ),
    False,
)
DEEPSEEK_CODER = (
    AS_IT_IS,
    sequence(
        split("[\r\n]"),
        split("\\s?\\p{L}+"),
        split("\\s?\\p{P}+"),
        split(ASIAN),
        DIGITS,
        byte_level_step(False),
    ),
    False,
)
PUBLISHED = {
    "gpt-2": GPT2,
    "starcoder": STARCODER,
    "refact": STARCODER,
    "smollm": STARCODER,
    "command-r": COMMAND_R,
    "llama-bpe": LLAMA3,
    "falcon3": LLAMA3,  # so llama.cpp and transformers read its GGUF files
    "dbrx": SMAUG,
    "smaug-bpe": SMAUG,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "tekken": TEKKEN,
    "gpt-4o": GPT4O,
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-coder": DEEPSEEK_CODER,
}


@pytest.fixture(scope="module")
def vocabulary():
    """Tokens and merges of TEXTS, learned without any rule, so merges go over every border.

    Behind them are words that no merges build: ignore_merges finds them.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    # Not those with <|endoftext|> and the like, which would be special tokens.
    backend.train_from_iterator([text for text in TEXTS if "<|" not in text], trainer)
    learned = json.loads(backend.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].get)
    merges = [" ".join(pair) for pair in learned["merges"]]
    words = ["Ġquick", "camel", "SELECT", "antidisestablishmentarianism"]
    assert len(merges) > 1000
    return [*tokens, *(word for word in words if word not in tokens)], merges


def ours(file, name, vocabulary):
    tokens, merges = vocabulary
    keys = {"pre": name, "tokens": tokens, "merges": merges, "token_type": [1] * len(tokens)}
    metadata = byte_level(**keys, bos_token_id=None, eos_token_id=None, padding_token_id=None)
    return read_tokenizer(write(file, metadata))


def theirs(published, vocabulary):
    from tokenizers import Tokenizer

    normalizer, pre_tokenizer, ignore_merges = published
    tokens, merges = vocabulary
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": ignore_merges, "vocab": {t: n for n, t in enumerate(tokens)},
             "merges": merges}  # fmt: skip
    return Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None,
        "decoder": byte_level_step(True), "model": model,
    }))  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_ids_are_those_of_the_published_rules(tmp_path, vocabulary, name):
    tokenizer, expected = (
        ours(tmp_path / "m", name, vocabulary),
        theirs(PUBLISHED[name], vocabulary),
    )
    for text in [*TEXTS, "\n".join(TEXTS), "".join(TEXTS)]:
        ids = tokenizer(text)["input_ids"]
        assert ids == expected.encode(text).ids, text
        assert tokenizer.decode(ids) == expected.decode(ids)
        if PUBLISHED[name][0] != NFC:
            assert tokenizer.decode(ids) == text


def test_texts_and_vocabulary_tell_all_rules_apart(tmp_path, vocabulary):
    """Without this the test above could pass with a wrong rule."""
    ids = {rule.names[0]: ours(tmp_path / rule.names[0], rule.names[0], vocabulary)(TEXTS).input_ids
           for rule in RULES}  # fmt: skip
    for name, one in ids.items():
        same = [other for other, two in ids.items() if one == two]
        assert same == [name]


def test_every_rule_is_compared_with_a_published_one():
    compared = {rule.names[0] for rule in RULES if set(rule.names) & set(PUBLISHED)}
    assert compared == {rule.names[0] for rule in RULES} - {"default"}  # which is llama.cpp's


def cut(text, patterns):
    """Pieces of a text as llama.cpp cuts it: by each expression in turn, matches and gaps."""
    regex = pytest.importorskip("regex", reason="needs regex, as transformers does")
    pieces = [text]
    for pattern in patterns:
        pieces = [
            part
            for piece in pieces
            for part in regex.split(f"({pattern})", piece)
            if part
        ]  # fmt: skip
    return pieces


LLAMA_CPP_GPT2 = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"  # gaps: \s+
)


@pytest.mark.parametrize("name", ["default", None, ""])
def test_files_that_name_no_rule_have_llama_cpps(tmp_path, caplog, vocabulary, name):
    patterns = [r"[\p{P}\$\+<=>\^~\|]+", LLAMA_CPP_GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]
    tokenizer = ours(tmp_path / "m", name, vocabulary)
    merge = theirs((None, byte_level_step(False), False), vocabulary)
    for text in TEXTS:
        expected = [n for piece in cut(text, patterns) for n in merge.encode(piece).ids]
        assert tokenizer(text)["input_ids"] == expected, text
    warned = "lacks tokenizer.ggml.pre: texts are cut by llama.cpp's rule 'default'"
    assert (warned in caplog.text) == (not name)


LLAMA_CPP = {
    "deepseek-llm": ["[\r\n]", f"\\s?[{DEEPSEEK_LETTERS}]+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
                     "\\s+$", ASIAN, "\\p{N}+"],
    "tekken": [r"[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}])(?:[^a-z]))*(?:(?=[\p{L}])(?:[^A-Z]))+"
               r"|[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}])(?:[^a-z]))+(?:(?=[\p{L}])(?:[^A-Z]))*"
               r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "published", "llama_cpp"),
    [
        ("deepseek-llm", "a 123", ["a", " ", "1", "2", "3"], ["a", " ", "123"]),
        ("tekken", "àÉ", ["à", "É"], ["àÉ"]),  # case of ASCII letters alone
    ],
)
def test_the_publishers_rules_win(tmp_path, vocabulary, name, text, published, llama_cpp):
    """llama.cpp's expressions for these cut otherwise. Nor does it normalize Qwen2's and
    Command-R's texts, which `test_unicode_is_composed_as_published` has."""
    tokenizer = ours(tmp_path / "m", name, vocabulary)
    words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in words] == published
    assert cut(text, LLAMA_CPP[name]) == llama_cpp


@pytest.mark.parametrize(
    ("name", "composes"),
    [("qwen2", True), ("command-r", True), ("llama-bpe", False), ("refact", False)],
)
def test_unicode_is_composed_as_published(tmp_path, vocabulary, name, composes):
    tokenizer = ours(tmp_path / "m", name, vocabulary)
    same = tokenizer("e\u0301")["input_ids"] == tokenizer("\u00e9")["input_ids"]
    assert same == composes


@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.names}))
def test_the_first_token_is_added_by_default_where_llama_cpp_adds_it(tmp_path, name):
    adds = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
            "lfm2", "tekken"}  # fmt: skip
    file = write(tmp_path / "m", byte_level(pre=name))
    bos = read_tokenizer(file).bos_token_id
    assert read_tokenizer(file)("a")["input_ids"][:-1] == ([bos] if name in adds else [])


@pytest.mark.parametrize("name", ["falcon", "deepseek-v3", "qwen35", "bloom", "Qwen2", "kimi-k2"])
def test_other_rules_are_refused_and_those_implemented_are_named(tmp_path, name):
    message = f"m: pre-tokenizer '{name}' is not implemented; implemented are default, gpt-2, "
    with pytest.raises(GGUFError, match=message) as caught:
        read_tokenizer(write(tmp_path / "m", byte_level(pre=name)))
    assert all(other in str(caught.value) for rule in RULES for other in rule.names)
