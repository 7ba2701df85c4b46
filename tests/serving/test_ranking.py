"""Ranking against sentence-transformers' CrossEncoder, and what an engine ranks."""

import copy
import json

import numpy as np
import pytest
import tiny
import tiny_run
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tolerance import SAME
from transformers import PreTrainedTokenizerFast

import latadj_jax
from latadj_jax.data.encoded import encode_examples
from latadj_jax.data.labelled_examples import Examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.evaluation.evaluate import outputs_of
from latadj_jax.serving.ranking import pairs
from latadj_jax.tasks.ranking import scores

QUERY = "good word1"
DOCUMENTS = ["word2 bad word3", "good word4 word5", "bad bad", "word6 good", "word1 " * 30]


def save(folder, num_labels=1, **changes):
    """A tiny cross-encoder with a tokenizer, and `changes` in its config.json; None takes out."""
    names = {str(n): f"LABEL_{n}" for n in range(num_labels)}
    own = {"id2label": names, "label2id": {name: int(n) for n, name in names.items()}}
    model, params = tiny.make("bert", "ranking", num_hidden_layers=2)
    if num_labels > 1:
        config = model.config.replace(labels=tuple(names.values()))
        model = model.replace(config=config)
        params = tiny.random_params(model)
    latadj_jax.save_pretrained(folder, model, params, tiny_run.tokenizer(folder.parent))
    (folder / "elimination.json").unlink()  # which others do not write
    config = json.loads((folder / "config.json").read_text()) | own | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


NONE = {"sentence_transformers": None}
SPELLINGS = {
    "no activation": (1, NONE),
    "several labels": (3, NONE),
    "before version 4": (1, {**NONE, "sbert_ce_default_activation_function":
                             "torch.nn.modules.linear.Identity"}),
    "since version 4": (1, {"sentence_transformers":
                            {"activation_fn": "torch.nn.modules.activation.Tanh"}}),
}  # fmt: skip


@pytest.mark.parametrize(("num_labels", "changes"), SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("whose", ["as it was saved", "as version 6 saves it"])
def test_scores_are_those_of_cross_encoder(num_labels, changes, whose, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = save(tmp_path / "ours", num_labels, **changes)
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    if whose != "as it was saved":
        folder = tmp_path / "theirs"
        theirs.save_pretrained(str(folder))
    model, params = latadj_jax.from_pretrained(folder, "ranking")
    rows = [(QUERY, document) for document in DOCUMENTS[:4]]
    engine = latadj_jax.Engine(
        model, params, latadj_jax.load_tokenizer(str(folder)), buckets=(24,), batch_sizes=(4,)
    ).warmup(repeats=1)
    found = scores(model.config, engine(rows))
    expected = theirs.predict(rows).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    if num_labels == 1:
        ranked = engine.rank(QUERY, DOCUMENTS[:4], top_k=3)
        wanted = theirs.rank(QUERY, DOCUMENTS[:4], top_k=3)
        assert [r.index for r in ranked] == [r["corpus_id"] for r in wanted]
        np.testing.assert_allclose([r.score for r in ranked], [r["score"] for r in wanted],
                                   rtol=0, atol=1e-4)  # fmt: skip

    latadj_jax.save_pretrained(tmp_path / "again", model, params, engine.tokenizer)
    back = sentence_transformers.CrossEncoder(str(tmp_path / "again"), device="cpu")
    np.testing.assert_allclose(back.predict(rows).reshape(found.shape), found, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("num_labels", "changes", "task"),
    [
        (1, {}, "ranking"),
        (1, SPELLINGS["before version 4"][1], "ranking"),
        (1, NONE, "regression"),  # nothing says that it ranks
        (3, SPELLINGS["since version 4"][1], "classification"),  # as cross-encoder/nli-*
    ],
)
def test_what_is_read_as_a_ranker(num_labels, changes, task, tmp_path):
    folder = save(tmp_path / "m", num_labels, **changes)
    assert latadj_jax.from_pretrained(folder)[0].task == task


def test_an_activation_that_is_not_implemented_is_refused(tmp_path):
    folder = save(tmp_path / "m", sentence_transformers={"activation_fn": "my.Own"})
    with pytest.raises(ValueError, match=r"activation 'my\.Own' .*implemented are Identity"):
        latadj_jax.from_pretrained(folder)


def test_a_prompt_of_a_cross_encoder_is_refused(tmp_path):
    folder = save(tmp_path / "m")
    about = {"model_type": "CrossEncoder", "default_prompt_name": "web", "prompts": {"web": "x"}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"a prompt of a CrossEncoder \('web'\) is not"):
        latadj_jax.from_pretrained(folder)


@pytest.mark.parametrize("cut", ["longest_first", "only_second", False])
def test_a_query_tokenized_once_is_in_pairs_as_the_tokenizer_makes_them(cut, tmp_path):
    tokenizer = tiny_run.tokenizer(tmp_path)
    query = "good " * 9
    options = {"truncation": cut, "max_length": 16} if cut else {}
    expected = [tokenizer(query, document, **options) for document in DOCUMENTS]
    found = pairs(tokenizer, query, DOCUMENTS, 16 if cut else 60, cut)
    for ours, theirs in zip(found, expected, strict=True):
        for key in ("input_ids", "token_type_ids"):
            assert ours[key].tolist() == theirs[key], key
        assert ours["protected"].tolist() == [int(n == 0) for n in theirs.sequence_ids()]
    assert not cut or len(found[-1]["input_ids"]) == 16
    kept = {"longest_first": 6, "only_second": 9, False: 9}  # of the query's nine tokens
    assert found[-1]["protected"].sum() == kept[cut]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("ranker") / "m")
    model, params = latadj_jax.from_pretrained(folder)
    model = model.replace(profile=latadj_jax.Profile((0.7, 0.6)), alpha=0.9, strategy="merge")
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    with latadj_jax.Engine(model, params, tokenizer, alphas=(None,), buckets=(24,)) as engine:
        yield engine.warmup(repeats=1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("cut", ["longest_first", "only_second"])
def test_pairs_of_a_tokenizer_with_four_special_tokens(cut, side, spiece_pairs):
    """RoBERTa's <s> a </s></s> b </s>, at and beyond the limit, cut at either side."""
    tokenizer = copy.deepcopy(spiece_pairs)
    tokenizer.truncation_side = side
    for words in (1, 9, 10):
        found = pairs(tokenizer, "a " * words, ["a b c", "b " * 30], 16, cut)
        expected = [
            tokenizer("a " * words, text, truncation=cut, max_length=16)["input_ids"]
            for text in ("a b c", "b " * 30)
        ]
        assert [pair["input_ids"].tolist() for pair in found] == expected
    with pytest.raises(ValueError, match=r"the query has 12 tokens, which with 4 special ones"):
        pairs(tokenizer, "a " * 12, ["b"], 16, cut)


@pytest.fixture(scope="module")
def spiece_pairs():
    words = {token: n for n, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a", "b", "c"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")


def test_nothing_is_compiled_however_many_documents_there_are(ranker, count_compilations):
    for number in (1, 2, 3, 4):
        ranker.rank(QUERY, DOCUMENTS[:number])
    assert count_compilations() == 0


def test_scores_that_a_sigmoid_makes_equal_are_in_the_order_of_their_logits(monkeypatch, ranker):
    logits_N1 = np.array([[18.0], [25.0], [21.0]], np.float32)
    monkeypatch.setattr(ranker, "_run", lambda choose, examples: logits_N1)
    ranked = ranker.rank(QUERY, DOCUMENTS[:3])
    assert [r.index for r in ranked] == [1, 2, 0]


def test_an_engine_ranks_at_an_alpha(ranker):
    """As the call scores the same pairs, at the model's own alpha and dense."""
    for asked in ({}, {"alpha": None}, {"latency_ms": 1e6}):
        ranked = ranker.rank(QUERY, DOCUMENTS[:4], **asked)
        logits = ranker([(QUERY, document) for document in DOCUMENTS[:4]], **asked)
        expected = scores(ranker.model.config, logits)[:, 0]
        assert [r.index for r in ranked] == np.argsort(-expected).tolist()
        np.testing.assert_allclose([r.score for r in ranked], np.sort(expected)[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("query", "documents", "options", "message"),
    [
        (QUERY, [], {}, "^there are no documents to rank"),
        (QUERY, "good", {}, "^documents must be a list of texts; it is one string"),
        (QUERY, ["good", " "], {}, "^document 1 must be a text; it is ' '"),
        (QUERY, ["good", None], {}, "^document 1 must be a text; it is None"),
        (" ", ["good"], {}, "^the query must be a text; it is ' '"),
        ("good " * 30, ["good"], {}, "^the query has 30 tokens, which with 3 special ones leave"),
        (QUERY, DOCUMENTS, {}, r"^the query with document 4 has 35 tokens, the largest bucket 24"),
        (QUERY, ["good"], {"top_k": 0}, "^top_k must be .*at least 1"),
        (QUERY, ["good"], {"top_k": 1.5}, "^top_k must be"),
        (QUERY, ["good"], {"cut": "left"}, "^cut must be one of longest_first, only_second"),
        (QUERY, ["good"], {"alpha": 0.123}, "alpha 0.123 was not compiled"),
    ],
)
def test_what_cannot_be_ranked_is_one_sentence(ranker, query, documents, options, message):
    with pytest.raises(ValueError, match=message):
        ranker.rank(query, documents, **options)


def test_a_single_text_is_not_ranked(ranker):
    with pytest.raises(ValueError, match=r"^text 1 is a single text; this model reads pairs"):
        ranker([(QUERY, "good"), "good"])


def test_other_models_do_not_rank(tmp_path):
    model, params = tiny.make("bert", "classification", num_hidden_layers=1)
    engine = latadj_jax.Engine(
        model, params, tiny_run.tokenizer(tmp_path), buckets=(16,), batch_sizes=(1,)
    )
    with pytest.raises(RuntimeError, match=r"call warmup\(\) first"):
        engine.rank(QUERY, DOCUMENTS)
    with pytest.raises(ValueError, match="ranks with task 'ranking'; this is for 'classification'"):
        engine.warmup(repeats=1).rank(QUERY, DOCUMENTS)
    folder = save(tmp_path / "m", 3)
    model, params = latadj_jax.from_pretrained(folder, "ranking")
    engine = latadj_jax.Engine(
        model, params, tiny_run.tokenizer(tmp_path), buckets=(16,), batch_sizes=(1,)
    ).warmup(repeats=1)
    with pytest.raises(ValueError, match="the model gives 3 scores to a pair; ranking needs one"):
        engine.rank(QUERY, DOCUMENTS)


def test_a_query_that_is_kept_is_kept_in_training_as_in_serving(tmp_path):
    """Its tokens are marked alike by the engine's call, by `rank` and by what training reads."""
    folder = save(tmp_path / "m")
    model, params = latadj_jax.from_pretrained(folder)
    model = model.replace(profile=latadj_jax.Profile((0.7, 0.6)), alpha=0.6, protected=4)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    rows = [(QUERY, document) for document in DOCUMENTS[:4]]
    engine = latadj_jax.Engine(model, params, tokenizer, buckets=(24,), batch_sizes=(4,))
    served = engine.warmup(repeats=1)(rows)
    data = DataSettings(path="x", max_length=24, buckets=(24,))
    part = encode_examples(tokenizer, Examples(rows, np.zeros(4)), data, model)
    read = outputs_of(model, params, part, {24: model.plan(0.6, 24)}, 4, "read")
    np.testing.assert_allclose(read, served, **SAME)
    by_rank = {r.index: r.score for r in engine.rank(QUERY, DOCUMENTS[:4])}
    expected = scores(model.config, served)[:, 0]
    np.testing.assert_allclose([by_rank[n] for n in range(4)], expected, rtol=1e-5)
    unmarked = model.replace(protected=None)
    plain = outputs_of(unmarked, params, part, {24: unmarked.plan(0.6, 24)}, 4, "read")
    assert np.abs(plain - served).max() > 1e-4  # else nothing was shown
