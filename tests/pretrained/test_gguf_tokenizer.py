"""Tokenizers of GGUF files: tiny ones written here, and SmolLM2's beside transformers' own."""

import json
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from paths import ROOT
from tiny_gguf import SHAPES, TEXTS, byte_level, sentencepiece, smollm2, tiny_tensors, write

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


def test_sentencepiece_needs_no_types(tmp_path):
    """Without them all tokens are normal ones, but for those that end a generation."""
    texts = ["abc aab", "é z\n", " a</s>b"]
    typed, plain = (
        read_tokenizer(write(tmp_path / f"m{n}", sentencepiece(**changes)))
        for n, changes in enumerate(({}, {"token_type": None}))
    )
    assert plain(texts)["input_ids"] == typed(texts)["input_ids"]
    assert 2 in plain(texts[-1])["input_ids"]


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
        ({"tokenizer.ggml.pre": "bloom"}, "pre-tokenizer 'bloom' is not implemented; implemented"),
        ({"tokenizer.ggml.model": None}, r"lacks the metadata key tokenizer\.ggml\.model"),
        ({"tokenizer.ggml.tokens": None}, r"lacks the metadata key tokenizer\.ggml\.tokens"),
        ({"tokenizer.ggml.merges": ["q Q"]}, r"the tokenizer is broken \(.*`?qQ"),
        ({"tokenizer.ggml.pre": ["gpt-2"]}, r"the tokenizer is broken \(TypeError"),
        (
            {"tokenizer.ggml.token_type": [1, 1]},
            r"m: tokenizer\.ggml\.token_type has 2 values for 109 tokens; convert it again\.$",
        ),
        (
            {"tokenizer.ggml.tokens": ["a", "b", "a"]},
            r"m: tokenizer\.ggml\.tokens holds 'a' more than once",
        ),
    ],
)
def test_tokenizers_that_cannot_be_read(tmp_path, metadata, message):
    with pytest.raises(GGUFError, match=message) as caught:
        read_tokenizer(write(tmp_path / "m", {**byte_level(), **metadata}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, r"m lacks the metadata key tokenizer\.ggml\.scores"),
        ({"scores": [0.0]}, r"m: tokenizer\.ggml\.scores has 1 values for 272 tokens"),
        ({"token_type": [1]}, r"m: tokenizer\.ggml\.token_type has 1 values for 272 tokens"),
    ],
)
def test_sentencepiece_that_cannot_be_read(tmp_path, changes, message):
    with pytest.raises(GGUFError, match=message):
        read_tokenizer(write(tmp_path / "m", sentencepiece(**changes)))


def test_empty_tokens_have_names_and_types_may_be_too_many(tmp_path):
    """Both as in llama.cpp."""
    metadata = byte_level()
    tokens = [*metadata["tokenizer.ggml.tokens"], "", ""]
    metadata["tokenizer.ggml.tokens"] = tokens
    metadata["tokenizer.ggml.token_type"] += [1] * 9
    tokenizer = read_tokenizer(write(tmp_path / "m", metadata))
    assert len(tokenizer) == len(tokens)
    last = len(tokens) - 1
    assert tokenizer.convert_ids_to_tokens([last - 1, last]) == [
        f"[EMPTY_{last - 1}]",
        f"[EMPTY_{last}]",
    ]
    assert tokenizer("ab c")["input_ids"] == read_tokenizer(
        write(tmp_path / "whole", byte_level())
    )("ab c")["input_ids"]  # fmt: skip


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
