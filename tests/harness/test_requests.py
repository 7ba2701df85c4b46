"""What is scored is the continuation's tokens, after what the tokenizer puts in front of a context
and without what it appends."""

import numpy as np
import pytest
import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

pytest.importorskip("lm_eval")
from framing import AFTER, AROUND, BOS, CONTEXT, dense, framing, plain_log_prob, save

from latadj_jax.harness.requests import RequestEncoder, added_tokens


def encoder(tokenizer, add_bos_token=None, seq2seq=False, **config) -> RequestEncoder:
    config = tiny.make_model("gpt2", "lm", vocab_size=310, **config).config
    return RequestEncoder.of(tokenizer, config, seq2seq, add_bos_token)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("add_bos_token", [None, False, True])
def test_a_context_has_what_stands_in_front_and_nothing_behind(around, add_bos_token):
    tokenizer = framing(around)
    of = encoder(tokenizer, add_bos_token)
    river, stone = (
        tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (CONTEXT, AFTER)
    )
    own = around in ("front", "both")
    front = (0,) if add_bos_token or (own and add_bos_token is None) else ()
    assert of.pair(CONTEXT, AFTER) == (front + river, stone)
    assert of.pair(CONTEXT + " ", AFTER.strip()) == (front + river, stone)
    assert of.context(CONTEXT) == front + river
    assert of.pair("", CONTEXT) == of.pair("", BOS + CONTEXT) == ((0,), river)
    assert of.pair(BOS + CONTEXT, AFTER) == ((0, *river), stone)  # no second one
    assert of.pair("", BOS) == ((0,), (0,))


@pytest.mark.parametrize("add_bos_token", [None, False, True])
def test_a_source_keeps_what_is_appended(add_bos_token):
    """Its encoder was trained with it."""
    of = encoder(framing("both"), add_bos_token, seq2seq=True)
    ids, end = of.ids(CONTEXT), of.tokenizer.eos_token_id
    front = () if add_bos_token is False else (0,)
    assert of.context(CONTEXT) == (*front, *ids, end)
    assert of.pair(CONTEXT, "river") == ((*front, *ids, end), of.ids("river"))
    assert of.context("") == (*front, end)


def test_added_tokens_are_found_with_a_vocabulary_of_few_characters():
    """The text that tells may have no tokens, or be the special token itself."""
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "z": 2}, unk_token="<none>"))
    backend.add_special_tokens(["<s>", "</s>"])
    assert added_tokens(PreTrainedTokenizerFast(tokenizer_object=backend)) == ((), ())
    backend.post_processor = TemplateProcessing(
        single="<s> <s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert added_tokens(PreTrainedTokenizerFast(tokenizer_object=backend)) == ((0, 0), (1,))


@pytest.mark.parametrize(
    ("named", "config", "start"),
    [
        ({}, {}, (0,)),
        ({"bos_token": None}, {"bos_token_id": 5}, (1,)),
        ({"bos_token": None, "eos_token": None}, {"bos_token_id": 5, "eos_token_id": 6}, (5,)),
        ({"bos_token": None, "eos_token": None}, {"bos_token_id": 5000, "eos_token_id": 6}, (6,)),
    ],
)
def test_an_empty_context_is_a_start_token(named, config, start):
    """The tokenizer's BOS, its EOS (id 1), or what config.json names of the model's ids."""
    of = encoder(framing("nothing", **named), **config)
    assert of.context("") == of.pair("", CONTEXT)[0] == of.pair(" \n", CONTEXT)[0] == start


def test_add_bos_token_puts_config_jsons_in_front_if_the_tokenizer_has_none():
    nameless = framing("nothing", bos_token=None)
    assert encoder(nameless, True, bos_token_id=5).context(CONTEXT)[0] == 5
    with pytest.raises(ValueError, match="add_bos_token=True needs a BOS token, and neither the"):
        encoder(nameless, True)


# A token that spans the border.


def merging(**named) -> PreTrainedTokenizerFast:
    """The tokens "ab" and "abc", beside a, b and c."""
    ids = {text: n for n, text in enumerate(["a", "b", "c", "ab", "abc"])}
    backend = Tokenizer(models.BPE(ids, [("a", "b"), ("ab", "c")]))
    backend.pre_tokenizer = pre_tokenizers.Split("|", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


@pytest.mark.parametrize(
    ("context", "continuation", "before", "after"),
    [
        ("c", "ab", [2], [3]),  # none spans it
        ("a", "b", [0], [1]),  # the whole is "ab"
        ("ab", "c", [3], [2]),
        ("ca", "bca", [2, 0], [1, 2, 0]),  # the whole is "c", "abc", "a": not "a" alone after "ca"
    ],
)
def test_a_continuation_that_shares_a_token_is_encoded_on_its_own(
    context, continuation, before, after
):
    of = encoder(merging(bos_token="c"))
    assert of.pair(context, continuation) == (tuple(before), tuple(after))


def test_a_shared_token_does_not_end_the_run(tmp_path, ask):
    save(tmp_path, merging(bos_token="c"), vocab_size=5)
    pairs = [("a", "b"), ("ca", "bca"), ("c", "ab")]
    got = ask(dense(tmp_path), "loglikelihood", *pairs)
    ids = [((0,), (1,)), ((2, 0), (1, 2, 0)), ((2,), (3,))]
    wanted = [plain_log_prob(tmp_path, *pair) for pair in ids]
    np.testing.assert_allclose([log_prob for log_prob, _ in got], wanted, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_an_empty_continuation_is_refused(family):
    of = encoder(framing("nothing"), seq2seq=family == "t5")
    for context in (CONTEXT, ""):
        with pytest.raises(ValueError, match="continuation '' has no tokens of its own: it must"):
            of.pair(context, "")


# Numbers.
