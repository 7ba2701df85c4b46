"""A generated text ends where lm-evaluation-harness's own HFLM ends it."""

import json

import letters
import numpy as np
import pytest
import tiny
import tiny_text
from letters import END, IDS, TURN

import latadj_jax
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training.jobs import seq2seq

pytest.importorskip("lm_eval")
from latadj_jax.harness import language_model
from latadj_jax.harness.stops import Stops

EOS = {"eos_token": TURN}
# What the model writes, the tokenizer, config.json, until, and the text.
ENDS = {
    "the tokenizer's": (["B", TURN, "C"], EOS, {}, [], "B"),
    "config.json's": (["B", END, "C"], EOS, {"eos_token_id": IDS[END]}, [], "B"),
    "one of config.json's": (["B", END, "C"], EOS, {"eos_token_id": [0, IDS[END]]}, [], "B"),
    "the tokenizer's beside config.json's": (
        ["B", TURN, "C"], EOS, {"eos_token_id": IDS[END]}, [], "B",
    ),
    "an ordinary token of config.json, which is shown": (
        ["B", ".", "C"], EOS, {"eos_token_id": IDS["."]}, [], "B.",
    ),
    "an ordinary token of the tokenizer": (["B", ".", "C"], {"eos_token": "."}, {}, [], "B"),
    "the tokenizer's, which pads": (["B", TURN, "C"], {**EOS, "pad_token": TURN}, {}, [], "B"),
    "the tokenizer's, beyond the model's ids": (
        ["B", "C"], {"eos_token": "<far>", "special": [TURN, "<far>"]}, {}, [], "BCCCCC",
    ),
    "a special token in until": (["B", END, "C"], EOS, {}, [END], "B"),
    "a plain added token in until": (
        ["B", "<x>", "C"], {**EOS, "plain": ["<x>"]}, {}, ["<x>"], "B",
    ),
    "an added token in until, beyond the model's ids": (
        ["B", "C"], {**EOS, "plain": ["<far>"]}, {}, ["<far>"], "BCCCCC",
    ),
    "a special token and a text in until": (
        ["B", END, "\n", "C"], EOS, {}, [f"{END}\n"], "B\n",
    ),
    "two special tokens in until": (
        ["B", END, "<x>", "C"], {**EOS, "special": [END, TURN, "<x>"]}, {}, [f"{END}<x>"], "B",
    ),
    "a text of two tokens": (["B", "C", "D"], EOS, {}, ["CD"], "B"),
    "a text that is no list": (["B", "C", "D"], EOS, {}, "CD", "B"),
    "the first of two that begins last": (["B", "C", "D", "E"], EOS, {}, ["CDE", "D"], "BC"),
    "the limit": (["B", END, "C"], EOS, {}, [], "BCCCC"),
}  # fmt: skip


@pytest.mark.parametrize(("written", "named", "config", "until", "text"), ENDS.values(), ids=ENDS)
def test_a_text_ends_as_hflms_does(tmp_path, ask, hflm, written, named, config, until, text):
    letters.save(tmp_path, written, letters.tokenizer(**named), **config)
    request = ("AA", {"until": until, "max_gen_toks": 6})
    assert ask(hflm(tmp_path), "generate_until", request) == [text]
    assert ask(language_model.Latadj(str(tmp_path)), "generate_until", request) == [text]


def test_each_text_of_a_batch_ends_on_its_own(tmp_path, ask, hflm):
    """The second is one token longer, so that it begins where the first ends."""
    letters.save(tmp_path, ["B", TURN, "C", "D", TURN], letters.tokenizer(**EOS))
    requests = [(context, {"until": [], "max_gen_toks": 9}) for context in ("AA", "AAA", "AAAA")]
    wanted = ["B", "", "CD"]
    assert ask(hflm(tmp_path), "generate_until", *requests) == wanted
    lm = language_model.Latadj(str(tmp_path), batch_size=3)
    assert ask(lm, "generate_until", *requests) == wanted


def test_beams_end_at_the_tokenizers_end(tmp_path, ask):
    letters.save(tmp_path, ["B", TURN, "C"], letters.tokenizer(**EOS))
    options = {"until": [], "max_gen_toks": 6, "num_beams": 2}
    assert ask(language_model.Latadj(str(tmp_path)), "generate_until", ("AA", options)) == ["B"]


@pytest.mark.parametrize(
    ("until", "text"), [(None, "BCDDDD"), ([], "BCDDDD"), (["", None, "D"], "BC")]
)
@pytest.mark.parametrize("named", [EOS, {}], ids=["an end", "no end"])
def test_until_may_be_nothing_and_a_tokenizer_without_an_end(tmp_path, ask, named, until, text):
    """HFLM fails on both."""
    letters.save(tmp_path, ["B", "C", "D"], letters.tokenizer(**named))
    request = ("AA", {"until": until, "max_gen_toks": 6})
    assert ask(language_model.Latadj(str(tmp_path)), "generate_until", request) == [text]


@pytest.mark.parametrize("until", [5, ["C", 5]])
def test_until_of_anything_but_texts_is_refused(tmp_path, ask, until):
    letters.save(tmp_path, ["B"], letters.tokenizer())
    lm = language_model.Latadj(str(tmp_path))
    with pytest.raises(ValueError, match="until must be a text or a list of texts; it holds 5"):
        ask(lm, "generate_until", ("AA", {"until": until, "max_gen_toks": 6}))


@pytest.mark.parametrize("until", ["C", f"{TURN}\n", END])
def test_nothing_is_generated_after_every_text_has_ended(tmp_path, ask, monkeypatch, until):
    """Stops are looked for after every eighth token."""
    written = [*"BBBBB", *{"C": "C"}.get(until, [until.strip(), "\n"]), "D"]
    letters.save(tmp_path, written, letters.tokenizer())
    columns, stream = [], language_model.stream

    def watched(*args, **options):
        for column in stream(*args, **options):
            columns.append(column)
            yield column

    monkeypatch.setattr(language_model, "stream", watched)
    request = ("AA", {"until": [until], "max_gen_toks": 40})
    (text,) = ask(language_model.Latadj(str(tmp_path)), "generate_until", request)
    assert text.strip() == "BBBBB"
    assert len(columns) <= 8


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """Its tokenizer ends a text with what the model writes third after this source."""
    path, source = tmp_path_factory.mktemp("t5"), "was seen by many who lived"
    model, params = tiny.make("t5", "seq2seq", vocab_size=310, num_hidden_layers=2)
    tokenizer = seq2seq.train_tokenizer([tiny_text.story(0)], 310)
    ids = np.array([tokenizer.encode(source)], np.int32)
    row = np.asarray(latadj_jax.generate(model, params, {"input_ids": ids}, None, 3))[0].tolist()
    assert len({*row}) == 3
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(row[2])
    latadj_jax.save_pretrained(path, model, params, tokenizer)
    return path, source, row


def test_a_t5s_text_ends_at_its_tokenizers_end(t5, ask, hflm):
    path, source, row = t5
    assert json.loads((path / "config.json").read_text())["eos_token_id"] == 1 != row[2]
    request = (source, {"until": [], "max_gen_toks": 12})
    texts = ask(language_model.Latadj(str(path)), "generate_until", request)
    assert texts == [load_tokenizer(str(path)).decode(row[:2])]
    assert texts == ask(hflm(path), "generate_until", request)


def test_rows_are_read_up_to_their_first_stop():
    """Fails where what follows it, or a stop that is complete only later, counts."""
    tokenizer = letters.tokenizer(**EOS)
    stops = Stops(tokenizer, (IDS[TURN],), ("CD", f"{END}E", "BCD"))
    rows = {
        "BCD": "B",  # "CD", whose place in the list is the first
        "AB": "AB",
        f"A{TURN}BCD": "A",
        f"A{END}B{END}E{TURN}": "ABE",
        "": "",
    }
    for row, text in rows.items():
        assert stops.text_of(tokenizer.encode(row)) == text
    ended = [tokenizer.encode(row) for row in ("BCD", f"A{TURN}D", f"A{END}E")]
    assert stops.reached(np.array(ended))
    assert not stops.reached(np.array([*ended, tokenizer.encode("ABC")]))
