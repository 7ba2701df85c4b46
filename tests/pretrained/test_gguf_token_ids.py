"""Special tokens of GGUF files: which end a generation, and ids that are none of the vocabulary."""

import logging

import pytest
from tiny_gguf import byte_level, sentencepiece, smollm2, write

from latadj_jax.pretrained.gguf import read_config
from latadj_jax.pretrained.gguf_tokenizer import read_tokenizer


def vocabulary(*added, kinds=3, **keys):
    """A byte-level vocabulary with `added` tokens behind, of a type each or of one; ids by name."""
    metadata = byte_level()
    tokens = metadata["tokenizer.ggml.tokens"]
    tokens[tokens.index("</s>")] = "<|other|>"  # it would end a generation by its text
    ids = {token: len(tokens) + n for n, token in enumerate(added)}
    named = {key: ids.get(token, token) for key, token in keys.items()}
    kinds = [kinds] * len(added) if isinstance(kinds, int) else kinds
    metadata["tokenizer.ggml.token_type"] += kinds
    tokens += added
    return metadata | {f"tokenizer.ggml.{key}_token_id": n for key, n in named.items()}, ids


LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")


@pytest.mark.parametrize(
    ("added", "keys", "expected"),
    [
        # Llama 3 Instruct, whose eos is the end of a text: its turns end otherwise.
        (LLAMA3, {"eos": "<|end_of_text|>"}, ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")),
        (
            LLAMA3,
            {"eos": "<|end_of_text|>", "eot": "<|eot_id|>", "eom": "<|eom_id|>"},
            ("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"),
        ),
        (LLAMA3, {"eos": "<|eot_id|>"}, ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")),
        (("<|endoftext|>", "<|im_end|>"), {"eos": "<|im_end|>"}, ("<|im_end|>", "<|endoftext|>")),
        (("</s>", "<|im_end|>"), {"eos": "</s>"}, ("</s>", "<|im_end|>")),
        (("<x>", "<y>"), {"eos": "<x>", "eot": "<y>"}, ("<x>", "<y>")),
        (("<x>",), {"eos": "<x>", "eot": "<x>"}, ("<x>",)),
        (("<x>",), {"eot": "<x>", "eos": None}, ("<x>",)),
        (("<end_of_turn>", "<eos>"), {"eos": "<eos>"}, ("<eos>", "<end_of_turn>")),
        # DeepSeek's, with its own bars and underscores.
        (("<｜end▁of▁sentence｜>",), {"eos": None}, ("<｜end▁of▁sentence｜>",)),
        # Code models: by key, else the first known text; the others are ordinary tokens.
        (("<fim_pad>", "<PAD>", "<reponame>"), {"eos": None}, ("<fim_pad>", "<reponame>")),
        (("<x>", "<fim_pad>"), {"eos": None, "fim_pad": "<x>"}, ("<x>",)),
        # GPT-OSS and Solar end parts of a turn with <|end|>, others a turn.
        (("<|end|>", "<|call|>"), {"eos": None}, ("<|end|>", "<|call|>")),
        (("<|end|>", "<|call|>", "<|return|>"), {"eos": None}, ("<|call|>", "<|return|>")),
        (("<|end|>", "<|calls|>", "<|flush|>"), {"eos": None}, ("<|calls|>", "<|flush|>")),
        # Gemma 4 has </s> for struck-out text.
        (("</s>", "<|tool_response>"), {"eos": None}, ("<|tool_response>",)),
        (("<|eot|>", "<|im_end", "im_end|>"), {"eos": None}, ()),
    ],
)
def test_all_ends_of_a_generation_are_found(tmp_path, caplog, added, keys, expected):
    caplog.set_level(logging.INFO)
    metadata, ids = vocabulary(*added, **keys)
    metadata = {key: value for key, value in metadata.items() if value is not None}
    ends = read_config(write(tmp_path / "m", metadata))["eos_token_id"]
    ends = [ends] if isinstance(ends, int) else ends or []
    assert ends == [ids[token] for token in expected]
    guessed = [token for token in expected if token not in keys.values()]
    assert ("by their text these end a generation too" in caplog.text) == bool(guessed)
    assert all(repr(token) in caplog.text for token in guessed)


def test_of_one_end_the_config_has_no_list(tmp_path):
    config = read_config(write(tmp_path / "m", {"tokenizer.ggml.eos_token_id": 2}))
    assert config["eos_token_id"] == 2


@pytest.mark.parametrize("kind", [1, 3, 4, None], ids=["normal", "control", "user", "no types"])
def test_what_ends_a_generation_is_taken_whole_and_left_out_of_text(tmp_path, caplog, kind):
    added = ("<|end_of_text|>", "<|eot_id|>", "<turn end>")
    metadata, _ = vocabulary(
        *added, kinds=kind or 1, eos="<|end_of_text|>", eot="<turn end>", bos=0, padding=0
    )
    if kind is None:
        del metadata["tokenizer.ggml.token_type"]
    tokenizer = read_tokenizer(write(tmp_path / "m", metadata))
    found = tokenizer("a<|eot_id|>b<turn end><|end_of_text|>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(found) == [
        "a", "<|eot_id|>", "b", "<turn end>", "<|end_of_text|>"
    ]  # fmt: skip
    assert len(tokenizer) == len(metadata["tokenizer.ggml.tokens"])
    assert tokenizer.decode(found, skip_special_tokens=True) == "ab"
    warned = "taken as control tokens, which they are not by tokenizer.ggml.token_type"
    assert (warned in caplog.text) == (kind != 3)


def test_real_smollm2_ends_where_llama_cpp_ends_it():
    """Its eos is <|im_end|>; what comes between texts, or between repositories, ends one, too."""
    config, tokenizer = read_config(smollm2()), read_tokenizer(smollm2())
    ends = tokenizer.convert_ids_to_tokens(config["eos_token_id"])
    assert ends == ["<|im_end|>", "<|endoftext|>", "<reponame>"]


@pytest.mark.parametrize("value", [4294967295, "size", -1])
@pytest.mark.parametrize("name", ["bos", "eos", "unknown", "padding", "eot", "eom"])
def test_ids_outside_of_the_vocabulary_are_ignored_and_logged(tmp_path, caplog, name, value):
    metadata, ids = vocabulary("<|bos|>", "<|eos|>", bos="<|bos|>", eos="<|eos|>", padding=0)
    key = f"tokenizer.ggml.{name}_token_id"
    metadata[key] = len(metadata["tokenizer.ggml.tokens"]) if value == "size" else value
    file = write(tmp_path / "m", metadata)
    config, tokenizer = read_config(file), read_tokenizer(file)
    due = {"bos": "<|bos|>", "eos": "<|eos|>", "padding": "!"} | {name: None}
    found = {"bos": tokenizer.bos_token, "eos": tokenizer.eos_token, "padding": tokenizer.pad_token}
    assert found == {key: due[key] for key in found}
    for read, theirs in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        token = due[read]
        assert config[f"{theirs}_token_id"] == (None if token is None else {**ids, "!": 0}[token])
    assert f"{key} is {metadata[key]!r}, which is none of the vocabulary's" in caplog.text
    assert tokenizer("a")["input_ids"] == [ord("a") - 33]


def test_an_id_is_checked_where_there_is_no_vocabulary(tmp_path, caplog):
    file = write(tmp_path / "m", {"tokenizer.ggml.eos_token_id": 300})
    assert read_config(file)["eos_token_id"] is None
    assert "eos_token_id is 300, which is none of the vocabulary's 300 tokens" in caplog.text


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_token_that_is_to_be_added_and_is_not_there_is_logged(tmp_path, caplog, name):
    metadata, _ = vocabulary("<|bos|>", "<|eos|>", bos="<|bos|>", eos="<|eos|>")
    metadata[f"tokenizer.ggml.add_{name}_token"] = True
    del metadata[f"tokenizer.ggml.{name}_token_id"]
    tokenizer = read_tokenizer(write(tmp_path / "m", metadata))
    assert tokenizer("a")["input_ids"] == [ord("a") - 33]
    assert (
        f"add_{name}_token is true, but there is no tokenizer.ggml.{name}_token_id" in caplog.text
    )


@pytest.mark.parametrize("value", [None, 4294967295])
def test_sentencepiece_has_special_tokens_by_default(tmp_path, caplog, value):
    """As llama.cpp: 1 and 2 begin and end a text, 0 is unknown."""
    keys = ("bos_token_id", "eos_token_id", "unknown_token_id")
    file = write(tmp_path / "m", sentencepiece(**dict.fromkeys(keys, value)))
    config, tokenizer = read_config(file), read_tokenizer(file)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, 2, None)
    named = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
    assert named == ("<s>", "</s>", "<unk>", None)
    assert tokenizer("a")["input_ids"][0] == 1
    for n, key in ((1, "bos"), (2, "eos"), (0, "unknown")):
        assert f"as tokenizer.ggml.{key}_token_id is taken {n}, as in llama.cpp" in caplog.text
