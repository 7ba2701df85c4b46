import json

import numpy as np
import pytest
from planted_facts import planted_facts
from tiny_text import story, write
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from latadj_jax.data.last_words import encode_last_word, load_last_words
from latadj_jax.data.train_tokenizer import train_tokenizer
from latadj_jax.errors import DataError
from latadj_jax.pretrained.tokenizers import encode_text

# ---- last words ---------------------------------------------------------------------------------


def test_last_words_in_every_spelling(tmp_path):
    rows = [
        {"text": " He said:\nrun to the  house \n", "domain": None},
        {"context": "He ran to the ", "target": " river."},
        {"context": "It was", "word": "old"},
        {"text": "to the\nhouse"},
    ]
    file = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert load_last_words(file) == [
        ("He said:\nrun to the", "house"),
        ("He ran to the", "river."),
        ("It was", "old"),
        ("to the", "house"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": ', "not JSON"),
        ("[]", "not a JSON object"),
        ('{"text": "alone "}', "needed are a last word and a context"),
        ('{"context": " ", "word": "a"}', "needed are a last word and a context"),
        ('{"context": "a", "target": ""}', "needed are a last word and a context"),
        ('{"context": "a", "answer": "b"}', "has context, answer; needed is text, or context with"),
        ("{}", "has no keys; needed is text"),
        ('{"text": 3}', "not a string"),
    ],
)
def test_a_broken_last_word_names_file_and_row(tmp_path, row, message):
    file = write(tmp_path / "a.jsonl", f'{{"text": "a b"}}\n\n{row}\n')
    with pytest.raises(DataError, match=rf"a\.jsonl, row 3.*{message}"):
        load_last_words(file)


@pytest.mark.parametrize("word", ["river", "unseen", "stone."])
def test_the_space_belongs_to_the_word(tokenizer, word):
    context_ids, word_ids = encode_last_word(tokenizer, "the old", word)
    assert context_ids.tolist() == encode_text(tokenizer, "the old").tolist()
    assert word_ids.tolist() == encode_text(tokenizer, " " + word).tolist()
    assert context_ids.dtype == word_ids.dtype == np.int32


@pytest.mark.parametrize("space", [" ", "\n", " \n  "])
def test_white_space_at_the_end_of_the_context_moves_to_the_word(tokenizer, space):
    context_ids, word_ids = encode_last_word(tokenizer, "the old" + space, "river")
    assert tokenizer.decode(context_ids) == "the old"
    assert tokenizer.decode(word_ids) == space + "river"


def test_a_tokenizer_with_its_own_first_space_is_encoded_jointly(spiece):
    """Fails where the word is encoded alone: it would get a second "▁"."""
    context_ids, word_ids = encode_last_word(spiece, "xy", "ab")
    assert spiece.convert_ids_to_tokens(context_ids) == ["▁", "x", "y"]
    assert spiece.convert_ids_to_tokens(word_ids) == ["▁a", "b"]
    _, word_ids = encode_last_word(spiece, "xy\n", "ab")
    assert spiece.convert_ids_to_tokens(word_ids) == ["\n", "a", "b"]


def test_a_context_begins_with_bos_where_the_tokenizer_adds_it():
    """As the harness reads it, and as Llama was trained."""
    tokenizer = train_tokenizer(story(0), 310)
    plain, word = encode_last_word(tokenizer, "the old", "river")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, 0)]
    )
    context_ids, word_ids = encode_last_word(tokenizer, "the old", "river")
    assert context_ids.tolist() == [0, *plain]
    assert word_ids.tolist() == word.tolist()
    assert context_ids.dtype == np.int32


def test_tokens_that_join_context_and_word_are_encoded_apart(spiece):
    """Fails where ids of a whole that does not begin with the context's are cut by count."""
    joining = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(
            models.BPE(
                {"a": 0, "b": 1, " ": 2, "a ": 3, "a b": 4, "c": 5}, [("a", " "), ("a ", "b")]
            )
        )
    )
    assert encode_text(joining, "ca bc").tolist() == [5, 4, 5]
    context_ids, word_ids = encode_last_word(joining, "ca", "bc")
    assert (context_ids.tolist(), word_ids.tolist()) == ([5, 0], [2, 1, 5])


@pytest.mark.parametrize(("context", "word"), [("", "a"), (" ", "a"), ("a", ""), ("a", " ")])
def test_nothing_to_read_or_to_score_is_refused(tokenizer, context, word):
    with pytest.raises(DataError, match="No tokens in the context"):
        encode_last_word(tokenizer, context, word)


# ---- planted facts ------------------------------------------------------------------------------

LENGTH = 256


@pytest.fixture(scope="module")
def filler(tokenizer):
    return encode_text(tokenizer, story(5))


@pytest.fixture(scope="module")
def facts(tokenizer, filler):
    return planted_facts(tokenizer, filler, LENGTH, 60, seed=0)


def places(ids: np.ndarray, part: np.ndarray) -> list[int]:
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(part))
    return np.flatnonzero((windows == part).all(axis=1)).tolist()


def test_the_fact_is_far_back_and_the_context_ends_in_its_opening(tokenizer, facts, filler):
    """Fails where the answer is near, missing, there twice, or not what the context asks for."""
    for context, answer in facts:
        assert context.shape == (LENGTH,)
        assert context.dtype == answer.dtype == np.int32
        assert len(places(context, answer)) == 1
        words = tokenizer.decode(context)
        assert words.count(tokenizer.decode(answer).strip()) == 1
        opening = encode_text(tokenizer, words[words.rindex(" The ") :])
        fact = np.concatenate([opening, answer, encode_text(tokenizer, ".")])
        (place,) = places(context, fact)
        assert place + len(fact) <= LENGTH // 4
        np.testing.assert_array_equal(context[-len(opening) :], opening)
        # All else is one stretch of the filler.
        rest = np.delete(context, np.s_[place : place + len(fact)])[: -len(opening)]
        assert len(places(filler, rest)) == 1


def test_facts_differ_and_are_those_of_the_seed(tokenizer, filler, facts):
    texts = [tokenizer.decode(context) for context, _ in facts]
    assert len(set(texts)) == len(facts)
    endings = {" ".join(text.split()[-3:]) for text in texts}
    assert len(endings) > 10
    assert len({tokenizer.decode(answer) for _, answer in facts}) > 20
    assert len({tuple(context[100:130]) for context, _ in facts}) > 50  # not one stretch of filler
    assert len({places(context, answer)[0] for context, answer in facts}) > 10  # not one place
    again = planted_facts(tokenizer, filler, LENGTH, 5, seed=0)
    other = planted_facts(tokenizer, filler, LENGTH, 5, seed=1)
    for (a, _), (b, _), (c, _) in zip(facts[:5], again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_an_answer_that_the_filler_holds_is_not_taken(tokenizer):
    """Fails where the model could copy the answer from elsewhere, or must choose between two."""
    cities = "Paris Cairo Lima Oslo Tokyo Madrid Vienna Dublin red blue green yellow purple orange"
    filler = encode_text(tokenizer, f"{cities} brown pink grey " * 50)
    for context, answer in planted_facts(tokenizer, filler, 512, 20, seed=0):
        answered = tokenizer.decode(answer).strip()
        assert answered.isdigit() or answered == "Prague"
        assert tokenizer.decode(context).count(answered) == 1


def test_a_length_that_does_not_fit_says_which_would(tokenizer, filler):
    with pytest.raises(
        DataError, match=r"does not fit into the first quarter of 64 .* at least"
    ) as e:
        planted_facts(tokenizer, filler, 64, 1, seed=0)
    enough = int(str(e.value).rstrip(".").split()[-1])
    assert len(planted_facts(tokenizer, filler, enough, 1, seed=0)[0][0]) == enough
    with pytest.raises(DataError, match="The filler has 50 tokens, a context of 256 tokens needs"):
        planted_facts(tokenizer, filler[:50], 256, 1, seed=0)


def test_a_filler_that_holds_every_answer_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr("planted_facts._FACTS", (("The house of {} is", ("red", "blue")),))
    filler = encode_text(tokenizer, "red blue " * 200)
    with pytest.raises(DataError, match="The filler holds the answer"):
        planted_facts(tokenizer, filler, LENGTH, 1, seed=0)


def test_an_array_of_examples_is_read_too(tmp_path):
    rows = [{"text": "one two three"}, {"context": "a b", "word": "c"}]
    path = tmp_path / "words.json"
    path.write_text(json.dumps(rows, indent=1))
    assert load_last_words(path) == [("one two", "three"), ("a b", "c")]


@pytest.mark.parametrize("content", ["[]", "\n\n"])
def test_a_file_without_examples_is_refused(content, tmp_path):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"words\.json (holds no examples|is empty)"):
        load_last_words(path)
