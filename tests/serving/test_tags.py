"""Tags as they are served: what transformers' pipeline gives for the same model, or one a word."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import tiny_run
from transformers import BertTokenizer

import latadj_jax
from latadj_jax.errors import DataError, TextError
from latadj_jax.serving import tags

NAMES = ("O", "B-per", "I-per", "B-loc", "misc")
PIECES = ["a", "b", "c", "##a", "##b", "##c", "##ab", "abc", "the", "river", ".", "-"]
# Words of one piece and of several, in other case, with accents and stops; "x" is unknown.
WORDS = ("abca", "Ab", "c", "the", "River.", "x", "cab-abc", "\u00c4b", "a.b", "  c")


def texts(number: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(number)]


def tagger(family: str = "bert", **changes):
    """One layer, whose tags are nearly as often something as nothing."""
    names = {str(n): name for n, name in enumerate(NAMES)}
    ids = {name: n for n, name in enumerate(NAMES)}
    return tiny.make_model(
        family, "token-classification", num_hidden_layers=1, id2label=names, label2id=ids, **changes
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tags")
    (folder / "vocab.txt").write_text("\n".join([*tiny_run.SPECIAL, *PIECES]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    model = tagger().replace(alpha=0.6)
    latadj_jax.save_pretrained(folder / "model", model, tiny.random_params(model), tokenizer)
    return folder / "model"


def engine_of(folder, **options):
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    options = {"alphas": (None,), "buckets": (40,), "batch_sizes": (1, 8), **options}
    return latadj_jax.Engine(model, params, tokenizer, **options).warmup(repeats=1)


@pytest.fixture(scope="module")
def engine(folder):
    return engine_of(folder)


def assert_same(found: list[list[dict]], expected: list[list[dict]]) -> int:
    """Scores nearly, all else exactly; how many entities there are."""
    number = 0
    for of_text, expected_of_text in zip(found, expected, strict=True):
        for entity, wanted in zip(of_text, expected_of_text, strict=True):
            assert entity["score"] == pytest.approx(float(wanted["score"]), abs=1e-5)
            assert {**entity, "score": 0} == {**wanted, "score": 0}
            number += 1
    return number


@pytest.mark.parametrize("aggregation", tags.AGGREGATIONS)
def test_entities_are_those_of_transformers(engine, folder, aggregation):
    """Of the same dense model in torch; fails where tokens, places or groups are told otherwise."""
    pytest.importorskip("torch")
    from transformers import pipeline

    expected = pipeline("token-classification", model=str(folder))(
        texts(50), aggregation_strategy=aggregation
    )
    found = engine.tag(texts(50), aggregation, alpha=None)
    assert assert_same(found, expected) > 100


@pytest.mark.parametrize("aggregation", ["simple", "first"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words:UserWarning")
def test_entities_of_a_vocabulary_without_marks(tmp_path, tokenizer, aggregation):
    """A byte-level one, where the space before a token says that a word begins."""
    pytest.importorskip("torch")
    from transformers import pipeline

    model = tagger("roberta", vocab_size=310)
    latadj_jax.save_pretrained(tmp_path / "m", model, tiny.random_params(model), tokenizer)
    some = ["the old river house .", "kings were stones", "of"]
    expected = pipeline("token-classification", model=str(tmp_path / "m"))(
        some, aggregation_strategy=aggregation
    )
    found = engine_of(tmp_path / "m", buckets=(24,), batch_sizes=(1,)).tag(some, aggregation)
    assert assert_same(found, expected) > 2


def test_a_list_of_words_has_one_tag_for_each(engine):
    """That of its first token, or by a vote of all; "O" too, and in the order of the words."""
    words = ["the", "abca", "cab-abc", "x", "River"]
    tokens = engine([" ".join(words)], alpha=None)[0]
    scores_TC = np.exp(tokens) / np.exp(tokens).sum(axis=1, keepdims=True)
    own = {0: [1], 1: [2, 3], 2: [4, 5, 6, 7], 3: [8], 4: [9]}  # CLS is token 0
    votes = {
        "simple": lambda scores: scores[0],
        "average": lambda scores: scores.mean(axis=0),
        "max": lambda scores: scores[scores.max(axis=1).argmax()],
    }
    for aggregation, vote in votes.items():
        found = engine.tag([words, ["the"]], aggregation, alpha=None)
        assert [len(of_text) for of_text in found] == [5, 1]
        for n, word in enumerate(words):
            wanted = vote(scores_TC[own[n]])
            assert found[0][n] == {
                "entity": NAMES[wanted.argmax()],
                "score": pytest.approx(wanted.max(), abs=1e-5),
                "index": n,
                "word": word,
            }


def test_a_word_that_was_not_read_is_tagged_o(folder):
    engine = engine_of(folder, buckets=(4,), batch_sizes=(1,), truncate=True)
    (found,) = engine.tag([["the", "\u200d", "abc", "river", "c"]])
    assert [tagged["word"] for tagged in found] == ["the", "\u200d", "abc", "river", "c"]
    assert [tagged["score"] > 0 for tagged in found] == [True, False, True, False, False]
    assert {found[n]["entity"] for n in (1, 3, 4)} == {"O"}


def test_tags_are_those_of_the_speed_that_is_asked_for(engine, folder):
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    text = "abca the River. c abc the river"
    batch = dict(tokenizer(text, return_tensors="np"))
    asked = {0.6: ({}, {"alpha": 0.6}, {"speedup": 1.01}), None: ({"alpha": None},)}
    for alpha, ways in asked.items():
        logits_TC = np.asarray(latadj_jax.apply(model, params, batch, alpha).logits)[0]
        (request,) = tags.requests(tokenizer, [text], 40, truncate=False)
        expected = [tags.found(tokenizer, NAMES, request, logits_TC, "none")]
        assert all(assert_same(engine.tag([text], "none", **how), expected) for how in ways)


def test_nothing_is_compiled_and_no_text_is_no_answer(engine, count_compilations):
    assert engine.tag([]) == []
    assert engine.tag([""]) == [[]]
    engine.tag(["abc", ["abc", "c"], "the"])
    assert count_compilations() == 0


def test_neighbours_of_one_type_are_one_entity():
    """Without a model: "B-" begins one, another type too; tags without either are types."""
    ids = {"O": 0, "B-per": 1, "I-per": 2, "B-loc": 3, "misc": 4}
    order = ["I-per", "I-per", "B-per", "I-per", "O", "misc", "misc", "B-loc", "I-per"]
    logits_TC = np.full((len(order), 5), -50.0, np.float32)
    logits_TC[np.arange(len(order)), [ids[tag] for tag in order]] = 50
    tokenizer = SimpleNamespace(
        convert_ids_to_tokens=lambda ids: [f"w{n}" for n in ids],
        convert_tokens_to_string=" ".join,
        unk_token_id=None,
        backend_tokenizer=SimpleNamespace(model=None),
    )
    text = " ".join(f"w{n}" for n in range(len(order)))
    spans = [(3 * n, 3 * n + 2) for n in range(len(order))]
    request = tags.Request(text, {"input_ids": np.arange(len(order))}, spans, [False] * len(order))
    found = tags.found(tokenizer, NAMES, request, logits_TC, "simple")
    assert [(entity["entity_group"], entity["word"]) for entity in found] == [
        ("per", "w0 w1"), ("per", "w2 w3"), ("misc", "w5 w6"), ("loc", "w7"), ("per", "w8"),
    ]  # fmt: skip
    assert all(text[e["start"] : e["end"]] == e["word"] for e in found)


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        ("abc", {}, "texts must be a list of texts; it is one string"),
        (["abc", 3], {}, "text 1 must be a string, or a list of words"),
        (["abc", []], {}, "text 1 must be a string, or a list of words"),
        ([["abc", " "]], {}, r"text 0 has an empty word, number 1 \(from 0\)"),
        (["c", "c " * 50], {}, "text 1 has 52 tokens, the largest bucket 40: add a larger bucket"),
        (["c", ["c"] * 50], {}, "text 1 has 52 tokens, the largest bucket 40: add a larger bucket"),
        (
            ["abc"],
            {"aggregation": "all"},
            "aggregation must be one of none, simple, first, average",
        ),
        (["abc"], {"alpha": 0.5, "speedup": 2}, "exclude each other"),
    ],
)
def test_bad_input_is_one_sentence(engine, given, options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        engine.tag(given, **options)
    assert isinstance(caught.value, TextError) == sentence.startswith("text ")


def test_other_models_and_tokenizers_do_not_tag(tmp_path, engine):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    other = latadj_jax.Engine(
        model, tiny.random_params(model), tiny_run.tokenizer(tmp_path), buckets=(8,)
    )
    with pytest.raises(
        ValueError, match="tags with task 'token-classification'; this is for 'clas"
    ):
        other.tag(["good"])
    with pytest.raises(DataError, match=r"does not say where .* tags need a fast tokenizer"):
        tags.requests(SimpleNamespace(is_fast=False), ["a"], 8, truncate=False)
