"""Tokenizers of GGUF files: tiny ones written here, and SmolLM2's beside transformers' own."""

import json
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from paths import ROOT
from tiny_gguf import SHAPES, byte_level, smollm2, tiny_tensors, write

from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf import read_config
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        # GPT-2 keeps a space with what follows it, and numbers whole.
        ("gpt-2", "b 1234  a", ["b", "Ġ", "123", "4", "Ġ", "Ġa"]),
        ("gpt-2", "  0123", ["Ġ", "Ġ", "0", "123"]),
        ("gpt-2", "abcé\n", ["abc", "Ã", "©", "Ċ"]),
        # SmolLM cuts at every digit first, so spaces before one stay together.
        ("smollm", "b 1234  a", ["b", "Ġ", "1", "2", "3", "4", "Ġ", "Ġa"]),
        ("smollm", "  12", ["ĠĠ", "1", "2"]),
        # Llama 3 has numbers of up to three digits, without the space before.
        ("llama-bpe", "a 0123", ["<s>", "a", "Ġ", "0", "12", "3"]),
        ("llama3", "A'LB", ["<s>", "A", "'L", "B"]),
        ("gpt-2", "a<s>ab<x y> a", ["a", "<s>", "ab", "<x y>", "Ġa"]),
    ],
)
def test_byte_level_pieces(tmp_path, pre, text, pieces):
    tokenizer = read_tokenizer(write(tmp_path / "m", byte_level(pre=pre)))
    encoded = tokenizer(text)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == pieces
    assert set(encoded) == {"input_ids", "attention_mask"}  # no token_type_ids for a Llama
    assert tokenizer.decode(encoded["input_ids"]).removeprefix("<s>") == text


def test_whole_words_of_the_vocabulary_need_no_merges_in_llama3(tmp_path):
    """Llama 3 has words that its merges do not build; GPT-2's rule is merges only."""
    tokens = byte_level()["tokenizer.ggml.tokens"]
    whole = tokens.index("1234")
    tokens[whole] = "xyz"
    for pre, expected in (("llama-bpe", ["<s>", "xyz"]), ("gpt-2", ["x", "y", "z"])):
        tokenizer = read_tokenizer(write(tmp_path / pre, byte_level(pre=pre, tokens=tokens)))
        assert tokenizer.convert_ids_to_tokens(tokenizer("xyz")["input_ids"]) == expected


@pytest.mark.parametrize(
    ("changes", "pieces"),
    [
        ({}, ["a"]),
        ({"add_bos_token": True}, ["<s>", "a"]),
        ({"add_bos_token": True, "add_eos_token": True}, ["<s>", "a", "</s>"]),
        ({"pre": "llama-bpe", "add_bos_token": False}, ["a"]),
    ],
)
def test_special_tokens_are_added_as_the_file_says_also_after_saving(tmp_path, changes, pieces):
    from transformers import AutoTokenizer

    template = "{% for m in messages %}<s>{{ m['content'] }}{% endfor %}"
    metadata = {**byte_level(**changes), "tokenizer.chat_template": template}
    file = write(tmp_path / "m", metadata)
    tokenizer = read_tokenizer(file)
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps(read_config(file)))
    for reader in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert reader.convert_ids_to_tokens(reader("a")["input_ids"]) == pieces
        named = (reader.bos_token, reader.eos_token, reader.pad_token, reader.unk_token)
        assert named == ("<s>", "</s>", "</s>", None)
        assert reader.decode(reader("<s>a<x y></s>")["input_ids"], skip_special_tokens=True) == (
            "a<x y>"
        )
        messages = [{"role": "user", "content": "ab"}, {"role": "user", "content": "c"}]
        assert reader.apply_chat_template(messages, tokenize=False) == "<s>ab<s>c"
        assert reader.model_max_length == 64


def sentencepiece(**changes):
    pieces = ["▁", "a", "b", "c", "ab", "▁a", "bc", "abc", "▁▁", "é", "▁ab", "aa", "aab"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        # Not in the order of the tokens: the later piece may be the better one.
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i * 7 % 13) for i in range(len(pieces))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        **{f"tokenizer.ggml.{key}": value for key, value in changes.items()},
    }


def merge_best_pair_first(metadata, text):
    """SentencePiece: join the two neighbours whose token scores best, leftmost first."""
    tokens = metadata["tokenizer.ggml.tokens"]
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    pieces = list("▁" + text.replace(" ", "▁"))
    while True:
        pairs = [(scores.get(a + b), -i) for i, (a, b) in enumerate(zip(pieces, pieces[1:]))]  # noqa: B905, RUF007
        best = max((pair for pair in pairs if pair[0] is not None), default=None)
        if best is None:
            break
        i = -best[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    spelled = [[p] if p in scores else [f"<0x{b:02X}>" for b in p.encode()] for p in pieces]
    return [piece for pieces in spelled for piece in pieces]


def test_sentencepiece_pieces_are_those_of_a_plain_loop(tmp_path):
    metadata = sentencepiece()
    tokenizer = read_tokenizer(write(tmp_path / "m", metadata))
    rng = np.random.default_rng(0)
    texts = ["", " ", "  a", "zé\n日"] + [
        "".join(rng.choice(list("aabbc é日"), 12)) for _ in range(200)
    ]
    for text in texts[1:]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == [
            "<s>",
            *merge_best_pair_first(metadata, text),
        ]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer("")["input_ids"] == [1]


def test_sentencepiece_without_the_space_in_front(tmp_path):
    metadata = sentencepiece(add_space_prefix=False, add_bos_token=False)
    tokenizer = read_tokenizer(write(tmp_path / "m", metadata))
    ids = tokenizer("ab <s>ab")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["ab", "▁", "<s>", "ab"]
    assert tokenizer.decode(tokenizer(" ab")["input_ids"]) == " ab"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer 'bert' is not implemented; 'gpt2' and 'll"),
        (
            {"tokenizer.ggml.pre": "qwen2"},
            "pre-tokenizer 'qwen2' is not implemented; implemented are gpt-2, ",
        ),
        ({"tokenizer.ggml.pre": None}, r"lacks the metadata key tokenizer\.ggml\.pre"),
        ({"tokenizer.ggml.model": None}, r"lacks the metadata key tokenizer\.ggml\.model"),
        ({"tokenizer.ggml.tokens": None}, r"lacks the metadata key tokenizer\.ggml\.tokens"),
        ({"tokenizer.ggml.merges": ["q Q"]}, r"the tokenizer is broken \(.*`?qQ"),
        ({"tokenizer.ggml.bos_token_id": 999}, r"the tokenizer is broken \(IndexError"),
        ({"tokenizer.ggml.token_type": [1, 1]}, r"the tokenizer is broken \(ValueError"),
    ],
)
def test_tokenizers_that_cannot_be_read(tmp_path, metadata, message):
    with pytest.raises(GGUFError, match=message) as caught:
        read_tokenizer(write(tmp_path / "m", {**byte_level(), **metadata}))
    assert "\n" not in str(caught.value)


def test_nothing_here_needs_torch(tmp_path):
    file = write(tmp_path / "m", byte_level(), tiny_tensors())
    program = f"""if True:
        import sys
        sys.modules["torch"] = None
        from latadj_jax.pretrained.gguf import read_config, read_tensors
        from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer
        print([len(read({str(file)!r})) for read in (read_config, read_tensors, read_tokenizer)])
    """
    root = ROOT
    args = [sys.executable, "-W", "ignore", "-c", program]
    found = subprocess.run(args, check=True, cwd=root, capture_output=True, text=True).stdout
    tokens = len(byte_level()["tokenizer.ggml.tokens"])
    assert json.loads(found) == [len(read_config(file)), len(SHAPES), tokens]


TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "I'll say it's Tom's, they've said; WE'LL SEE, don't 'quote' me.",
    "Zürich, façade, naïve, Ångström, Dvořák, İstanbul",
    "Привет, мир! Съешь же ещё этих мягких французских булок.", "Καλημέρα κόσμε", "مرحبا بالعالم",
    "שלום עולם", "你好，世界。今天天气很好。", "東京都に行きました。カタカナ",
    "안녕하세요 세계", "नमस्ते दुनिया", "สวัสดีชาวโลก",
    "🙂🙃👩‍👩‍👧‍👦🇨🇭 emoji", "e\u0301 against é, \u200bzero\u200dwidth\ufeff", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋",
    "“Curly” ‘quotes’ – dashes — and … dots", "3.14159 and 2.71828",
    "1,234,567.89 USD on 2024-05-17 at 09:30:00", "room  12, room   345,    6", "x1y22z333",
    "½ ² № Ⅷ ٣٤٥ ७८९ ①", "tel:+41 44 123 45 67", "0x1F4A9 1e-5 1_000", " leading and trailing ",
    "two  three   four    five     spaces", "   3", "tab\there\t\tthere\t1",
    "line\none\n\ntwo\n\n\nthree", "\r\nwindows\r\n", "\n", " ", "  ",
    "def f(x):\n    return x ** 2 + 1  # square\n",
    "for (int i = 0; i < 10; ++i) { a[i] = b[i] << 3; }",
    "SELECT * FROM t WHERE id = 42 AND name LIKE '%x%';", '<div class="a">&nbsp;</div>',
    "https://example.org/a?b=1&c=%20#d", "user@example.org", "\\frac{1}{2} \\alpha_{ij}",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "================----------------", "!!!???...;;;:::",
    "antidisestablishmentarianism", "<|im_start|>user\nHi<|im_end|>\n", "text<|endoftext|>text",
    "<|im_start|><|im_start|>  <|im_end|>4", "<|im_start |> <| im_end|> <|endoftext",
    "<repo_name>a/b<file_sep>c.py", "<jupyter_code>1+1<jupyter_output>2<empty_output>",
    "\x00\x01\x7f\u0085\u00a0\u2028\u3000",
]  # fmt: skip


def test_real_smollm2_tokens_are_those_that_transformers_gives():
    """Where numbers are: of the pieces between digits.

    transformers 5.23 does not know the pre-tokenizer "smollm" and cuts by GPT-2's rule alone.
    SmolLM2's published tokenizer.json cuts out every digit first, so the cuts are made for it.
    """
    pytest.importorskip("torch", reason="transformers reads GGUF files with torch")
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(smollm2().parent, gguf_file=smollm2().name)
    ours = read_tokenizer(smollm2())
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.all_special_ids == theirs.all_special_ids
    assert len(TEXTS) > 50
    for text in [*TEXTS, "\n".join(TEXTS)]:
        ids = ours(text)["input_ids"]
        cut = "".join(f"\ue000{c}\ue000" if unicodedata.category(c)[0] == "N" else c for c in text)
        pieces = [text] if cut == text else cut.split("\ue000")
        assert ids == [i for piece in pieces for i in theirs(piece)["input_ids"]], text
        assert ours.decode(ids) == text
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(
            ids, skip_special_tokens=True
        )
    messages = [
        {"role": "user", "content": "What is 12 x 3?"},
        {"role": "assistant", "content": "36"},
    ]
    for talk in (messages, messages[:1]):
        args = {"add_generation_prompt": len(talk) == 1, "tokenize": False}
        assert ours.apply_chat_template(talk, **args) == theirs.apply_chat_template(talk, **args)


def test_real_smollm2_gives_known_tokens():
    """Ids of the published tokenizer: a space before a digit is a token of its own."""
    tokenizer = read_tokenizer(smollm2())
    assert tokenizer("Hello 123")["input_ids"] == [19556, 216, 33, 34, 35]
    assert tokenizer("  7")["input_ids"] == [256, 39]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(prompt)["input_ids"][:2] == [1, 9690]  # <|im_start|>, system
