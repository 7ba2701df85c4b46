"""Answers to requests: HFLM's where a tokenizer appends nothing, else those of a plain pass."""

import logging

import letters
import numpy as np
import pytest
import tiny_text
from tokenizers.processors import TemplateProcessing
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training.jobs import seq2seq

pytest.importorskip("lm_eval")
from framing import AFTER, AROUND, BOS, CONTEXT, dense, framing, plain_log_prob, save

PAIRS = [
    (CONTEXT, AFTER),
    (CONTEXT + " ", "of"),
    ("", AFTER),
    (BOS + CONTEXT, AFTER),
    ("", BOS + CONTEXT),
    (CONTEXT, BOS),
]
OPTIONS = {"until": ["\n"], "max_gen_toks": 6}


@pytest.mark.parametrize("add_bos_token", [None, False, True])
@pytest.mark.parametrize("around", ["nothing", "front"])
def test_answers_are_hflms(tmp_path, ask, hflm, around, add_bos_token):
    save(tmp_path, framing(around))
    theirs = hflm(tmp_path, add_bos_token=add_bos_token)
    ours = dense(tmp_path, add_bos_token=add_bos_token, batch_size=4)
    for (log_prob, greedy), wanted in zip(
        ask(ours, "loglikelihood", *PAIRS), ask(theirs, "loglikelihood", *PAIRS), strict=True
    ):
        assert (log_prob, greedy) == (pytest.approx(wanted[0], rel=1e-4), wanted[1])
    contexts = [(text, OPTIONS) for text in (CONTEXT, BOS + CONTEXT, f"a{BOS}", "old king ")]
    assert ask(ours, "generate_until", *contexts) == ask(theirs, "generate_until", *contexts)
    rolled = ask(ours, "loglikelihood_rolling", (CONTEXT + AFTER,))
    if around == "nothing" and not add_bos_token:  # else HFLM scores a BOS after the BOS, too
        assert rolled == pytest.approx(
            ask(theirs, "loglikelihood_rolling", (CONTEXT + AFTER,)), rel=1e-4
        )


def test_a_context_that_is_too_long_loses_as_much_as_hflms(tmp_path, ask, hflm):
    """All positions are read: the last token of a continuation is scored, and not read."""
    save(tmp_path, framing("nothing"), n_positions=32)
    requests = [("again and " * 40, " again"), ("again and " * 40, " of stone and river")]
    ours, theirs = (ask(m(tmp_path), "loglikelihood", *requests) for m in (dense, hflm))
    for (our_log_prob, our_greedy), (log_prob, greedy) in zip(ours, theirs, strict=True):
        assert (our_log_prob, our_greedy) == (pytest.approx(log_prob, abs=1e-4), greedy)


def test_a_t5s_answers_are_hflms(tmp_path, ask, hflm):
    tokenizer = seq2seq.train_tokenizer([tiny_text.story(0)], 310)
    save(tmp_path, tokenizer, "t5")
    ours, theirs = dense(tmp_path), hflm(tmp_path)
    pairs = [(CONTEXT, "of stone"), (CONTEXT + " ", "of stone"), ("", "of stone")]
    got, wanted = (ask(lm, "loglikelihood", *pairs) for lm in (ours, theirs))
    assert [greedy for _, greedy in got] == [greedy for _, greedy in wanted]
    np.testing.assert_allclose([n for n, _ in got], [n for n, _ in wanted], rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("around", ["back", "both"])
def test_nothing_appended_is_between_a_context_and_what_follows(tmp_path, ask, around, family):
    """HFLM leaves the end token there, scores it, and leaves out the continuation's first token."""
    save(tmp_path, framing(around), family)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.encode(CONTEXT)[-1] == tokenizer.eos_token_id
    river, stone = (tokenizer.encode(text, add_special_tokens=False) for text in (CONTEXT, AFTER))
    front = [0] if around == "both" else []
    lm = dense(tmp_path)
    ((log_prob, _),) = ask(lm, "loglikelihood", (CONTEXT, AFTER))
    assert log_prob == pytest.approx(plain_log_prob(tmp_path, front + river, stone), rel=1e-4)
    (text,) = ask(lm, "generate_until", (CONTEXT, OPTIONS))
    model, params = latadj_jax.from_pretrained(tmp_path)
    prompt = {"input_ids": np.array([front + river], np.int32)}
    row = latadj_jax.generate(model, params, prompt, None, 6, stop_tokens=())[0].tolist()
    assert text == tokenizer.decode(row).split("!")[0].split("\n")[0]


@pytest.fixture
def bert_folder(tmp_path):
    """A GPT-2 with a BERT's tokenizer: [CLS] in front, [SEP] behind, no BOS and no EOS."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CONTEXT.split(), *AFTER.split()]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    return save(tmp_path / "model", BertTokenizer(str(tmp_path / "vocab.txt")), vocab_size=9)


@pytest.mark.parametrize(("add_bos_token", "front"), [(None, [2]), (False, [])])
def test_a_berts_tokenizer_leaves_no_sep_in_the_middle(bert_folder, ask, add_bos_token, front):
    lm = dense(bert_folder, add_bos_token=add_bos_token)
    assert lm.tokenizer.encode(CONTEXT) == [2, 5, 6, 3]
    ((log_prob, _),) = ask(lm, "loglikelihood", (CONTEXT, AFTER))
    assert log_prob == pytest.approx(plain_log_prob(bert_folder, [*front, 5, 6], [7, 8]), rel=1e-4)


@pytest.mark.parametrize("add_bos_token", [None, False])
def test_an_empty_context_is_what_the_tokenizer_puts_in_front(bert_folder, ask, add_bos_token):
    """Where there is no BOS and no EOS, whatever add_bos_token says."""
    lm = dense(bert_folder, add_bos_token=add_bos_token)
    ((log_prob, _),) = ask(lm, "loglikelihood", ("", CONTEXT))
    assert log_prob == pytest.approx(plain_log_prob(bert_folder, [2], [5, 6]), rel=1e-4)
    (rolled,) = ask(lm, "loglikelihood_rolling", (CONTEXT,))
    assert rolled == pytest.approx(log_prob, rel=1e-4)


@pytest.mark.parametrize("text", [CONTEXT, BOS + CONTEXT])
@pytest.mark.parametrize("around", AROUND)
def test_a_whole_text_is_scored_as_after_an_empty_context(tmp_path, ask, around, text):
    save(tmp_path, framing(around))
    lm = dense(tmp_path)
    river = lm.tokenizer.encode(CONTEXT, add_special_tokens=False)
    rolled = ask(lm, "loglikelihood_rolling", (text,), ("",))
    assert rolled == pytest.approx([plain_log_prob(tmp_path, [0], river), 0.0], rel=1e-4)


def test_windows_of_a_whole_text_begin_with_all_that_stands_in_front(tmp_path, ask):
    """Two tokens here. Dense, each later window of 16 tokens scores 9 after the 7 before them."""
    tokenizer = framing("nothing")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} ! $A", special_tokens=[(BOS, 0), ("!", tokenizer.eos_token_id)]
    )
    save(tmp_path, tokenizer)
    lm = dense(tmp_path, max_length=16)
    ids = lm.tokenizer.encode(CONTEXT + AFTER * 20, add_special_tokens=False)
    assert len(ids) > 32
    (rolled,) = ask(lm, "loglikelihood_rolling", (CONTEXT + AFTER * 20,))
    wanted, at = plain_log_prob(tmp_path, [0, 1], ids[:14]), 14
    while at < len(ids):
        end = min(len(ids), at + 7)
        wanted += plain_log_prob(tmp_path, ids[max(0, end - 15) : at], ids[at:end])
        at = end
    assert rolled == pytest.approx(wanted, rel=1e-4)


# Texts that cannot be read.


def asked(ask, lm, text):
    """Each kind of request of a text."""
    yield lambda: ask(lm, "loglikelihood", (text, "B"))
    yield lambda: ask(lm, "loglikelihood", ("A", text))
    yield lambda: ask(lm, "loglikelihood_rolling", (text,))
    yield lambda: ask(lm, "generate_until", (text, OPTIONS))


def test_a_token_that_the_model_does_not_know_is_refused_in_its_text_alone(tmp_path, ask):
    letters.save(tmp_path, ["B"], letters.tokenizer(special=["<pad>"], bos_token="A"))
    lm = dense(tmp_path)
    assert lm.tokenizer.encode("<pad>") == [16]
    for call in asked(ask, lm, "AB"):
        call()
    message = (
        r"that begins with '\w+<pad>' has the token '<pad>' of id 16, the model knows 0\.\.15:"
    )
    for call in asked(ask, lm, "BA<pad>"):
        with pytest.raises(ValueError, match=message):
            call()


def test_without_bos_and_eos_an_empty_context_is_one_sentence(tmp_path, ask):
    letters.save(tmp_path, ["B"], letters.tokenizer())
    lm = dense(tmp_path)
    assert lm.eot_token_id is None
    for kind, request in (
        ("loglikelihood", ("", "B")),
        ("loglikelihood_rolling", ("B",)),
        ("generate_until", ("", OPTIONS)),
    ):
        with pytest.raises(ValueError, match=r"give a context, or set bos_token in tokenizer_conf"):
            ask(lm, kind, request)
    assert ask(lm, "loglikelihood_rolling", ("",)) == [0.0]
    letters.save(tmp_path, ["B"], letters.tokenizer(), bos_token_id=3)
    ((log_prob, _),) = ask(dense(tmp_path), "loglikelihood", ("", "B"))
    assert log_prob == pytest.approx(plain_log_prob(tmp_path, [3], [1]), rel=1e-4)


def test_a_lone_surrogate_is_read_as_the_replacement_character(tmp_path, ask):
    """Of a JSON text that was cut inside an emoji."""
    save(tmp_path, framing("nothing"))
    lm = dense(tmp_path)
    cut, replaced = (list(asked(ask, lm, f"the {sign} river")) for sign in ("\ud83d", "\ufffd"))
    for call, other in zip(cut, replaced, strict=True):
        assert call() == other()
    assert lm.tok_encode("\ud83d") == lm.tok_encode("\ufffd")


# Chat templates.

TEMPLATE = """{% for turn in messages %}{% if turn.role == "system" %}
{{ raise_exception("no system role") }}{% endif %}[{{ turn.content }}]{% endfor %}"""


def test_a_template_that_refuses_a_system_turn_gets_the_others(tmp_path, caplog, hflm):
    save(tmp_path, framing("front", chat_template=BOS + TEMPLATE))
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    lm = dense(tmp_path)
    with caplog.at_level(logging.WARNING, "latadj_jax"):
        text = lm.apply_chat_template(turns)
    assert text == hflm(tmp_path).apply_chat_template(turns) == f"{BOS}[hello]"
    assert "refuses the system turn" in caplog.text
    assert lm.tok_encode(text) == lm.tokenizer.encode(text, add_special_tokens=False)
