"""Answers from an engine: as torch answers with the tokenizer's own windows; options, bad input."""

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax

BUCKETS = (16, 32)
RNG = np.random.default_rng(0)
QUESTIONS = [" ".join(RNG.choice(tiny_run.WORDS, RNG.integers(1, 6))) for _ in range(50)]
# Some in one window, others in several.
CONTEXTS = [" ".join(RNG.choice(tiny_run.WORDS, RNG.integers(1, 90))) for _ in range(50)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    model = tiny.make_model("bert", "question-answering", num_hidden_layers=2).replace(alpha=0.8)
    words = tiny_run.tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return model, tiny.random_params(model), words


@pytest.fixture(scope="module")
def engine(parts):
    options = {"alphas": (None, 0.5), "buckets": BUCKETS, "batch_sizes": (4,)}
    with latadj_jax.Engine(*parts, **options) as engine:
        yield engine.warmup(repeats=1)


def answers_of_torch(folder, tokenizer, question: str, context: str, top_k: int) -> list[dict]:
    """What a loop over all spans finds in the logits of torch, window by window."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForQuestionAnswering

    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    asked = len(tokenizer(question)["input_ids"]) + 1
    read = tokenizer(
        question, context, truncation="only_second", max_length=BUCKETS[-1],
        stride=(BUCKETS[-1] - asked) // 2, return_overflowing_tokens=True,
        return_offsets_mapping=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    offsets = read.pop("offset_mapping").tolist()
    read.pop("overflow_to_sample_mapping")
    with torch.no_grad():
        out = model(**read)
    found, ends = {}, [[], []]
    for n, places in enumerate(offsets):
        inside = [i for i, part in enumerate(read.sequence_ids(n)) if part == 1]
        for every, logits in zip(ends, (out.start_logits, out.end_logits), strict=True):
            every += [logits[n, 0].item(), *logits[n, inside].tolist()]
        for first in inside:
            for last in inside:
                if first <= last < first + 30:
                    at = places[first][0], places[last][1]
                    total = (out.start_logits[n, first] + out.end_logits[n, last]).item()
                    found[at] = max(found.get(at, -np.inf), total)
    log_total = sum(np.log(np.exp(np.array(every)).sum()) for every in ends)
    best = sorted(found, key=found.get, reverse=True)[:top_k]
    return [
        {"score": np.exp(found[at] - log_total), "start": at[0], "end": at[1],
         "answer": context[at[0] : at[1]]}
        for at in best
    ]  # fmt: skip


def test_dense_answers_are_those_of_torch(parts, engine, tmp_path):
    latadj_jax.save_pretrained(tmp_path, *parts[:2])
    ours = engine.answer(QUESTIONS, CONTEXTS, top_k=3, alpha=None)
    several = 0
    for question, context, found in zip(QUESTIONS, CONTEXTS, ours, strict=True):
        theirs = answers_of_torch(tmp_path, parts[2], question, context, 3)
        several += len(context.split()) > BUCKETS[-1]
        assert len(found) == len(theirs)
        for one, other in zip(found, theirs, strict=True):
            assert list(one) == ["score", "start", "end", "answer"]
            assert one["score"] == pytest.approx(other["score"], rel=1e-3)
            assert (one["start"], one["end"], one["answer"]) == tuple(other.values())[1:]
    assert several > 20


@pytest.mark.parametrize("alpha", [None, 0.8, 0.5])
def test_a_batch_is_answered_as_its_questions_one_by_one(engine, alpha):
    many = engine.answer(QUESTIONS[:6], CONTEXTS[:6], alpha=alpha)
    for question, context, found in zip(QUESTIONS, CONTEXTS, many, strict=False):
        one = engine.answer(question, context, alpha=alpha)
        assert (one["start"], one["end"]) == (found["start"], found["end"])
        assert one["score"] == pytest.approx(found["score"], rel=1e-3)
        assert one["answer"] == context[one["start"] : one["end"]]


def test_speed_is_asked_for_as_in_a_call(engine):
    """The alpha of a speedup is the slowest that reaches it; the default is the model's own."""
    question, context = QUESTIONS[0], CONTEXTS[1]
    at = {alpha: engine.answer(question, context, alpha=alpha)["score"] for alpha in engine.alphas}
    assert len(set(at.values())) == 3
    assert engine.answer(question, context)["score"] == at[0.8]
    assert engine.answer(question, context, speedup=2.0)["score"] == at[0.5]
    assert engine.answer(question, context, latency_ms=1e6)["score"] == at[None]


def test_one_question_or_context_goes_with_all_of_the_other(engine):
    pairs = [engine.answer(QUESTIONS[0], context) for context in CONTEXTS[:3]]
    same = engine.answer(QUESTIONS[0], CONTEXTS[:3])
    assert [found["answer"] for found in same] == [found["answer"] for found in pairs]
    assert len(engine.answer(QUESTIONS[:4], CONTEXTS[0])) == 4
    assert engine.answer([], []) == []


def test_there_may_be_no_answer_and_answers_are_not_longer_than_asked(engine):
    question, context = QUESTIONS[3], "word1 word2 word3"
    every = engine.answer(question, context, top_k=99, no_answer=True)
    assert len(every) == 7  # six spans, and none
    assert {"start": 0, "end": 0, "answer": ""}.items() <= next(
        found for found in every if not found["answer"]
    ).items()
    short = engine.answer(question, context, top_k=99, most_tokens=1)
    assert {found["answer"] for found in short} == {*context.split()}


def test_nothing_compiles_after_the_warm_up(engine, count_compilations):
    before = count_compilations()
    engine.answer(QUESTIONS, CONTEXTS, top_k=2)
    assert count_compilations() == before


def test_a_model_that_protects_the_question_is_told_where_it_is(parts):
    """Its answers are those of `apply` with the marks, also where the engine is called."""
    model, params, tokenizer = parts
    model = model.replace(protected=4, alpha=0.4)
    engine = latadj_jax.Engine(model, params, tokenizer, buckets=(16,), batch_sizes=(1,))
    engine.warmup(repeats=1)
    question, context = "good word1 word2 word3", "word4 bad word5 word6 word7 word8"
    batch = {key: value for key, value in tokenizer(question, context, return_tensors="np").items()}
    marks = np.isin(np.arange(batch["input_ids"].shape[1]), (1, 2, 3, 4)).astype(np.int32)[None]
    marked, plain = (
        latadj_jax.apply(model, params, given, 0.4).logits[0]
        for given in ({**batch, "protected": marks}, batch)
    )
    (logits,) = engine([(question, context)])
    np.testing.assert_allclose(logits, marked, atol=2e-5)
    assert np.abs(logits - plain).max() > 1e-3
    found = engine.answer(question, context, top_k=99)
    start, end = (np.exp(x - x.max()) for x in np.asarray(marked, np.float64).T)
    inside = [0, *range(6, 12)]
    best = {}
    for first in range(6, 12):
        for last in range(first, 12):
            best[first, last] = start[first] / start[inside].sum() * end[last] / end[inside].sum()
    assert found[0]["score"] == pytest.approx(max(best.values()), rel=1e-3)


@pytest.mark.parametrize(
    ("question", "context", "options", "message"),
    [
        ("", "word1", {}, "^question 0 must be a text; it is ''"),
        ("good", " ", {}, "^context 0 must be a text; it is ' '"),
        (["good", None], "word1", {}, "^question 1 must be a text; it is None"),
        (["good"], ["a", "b"], {}, "there are 1 questions and 2 contexts"),
        ("word1 " * 40, "word1", {}, "question 0 has 43 tokens .* no room .* window of 32"),
        ("good", "word1", {"top_k": 0}, "top_k must be an integer of at least 1"),
        ("good", "word1", {"most_tokens": 0}, "most_tokens must be an integer of at least 1"),
        ("good", "word1", {"alpha": 0.7}, "alpha 0.7 was not compiled"),
        ("good", "word1", {"alpha": None, "speedup": 2}, "exclude each other"),
    ],
)
def test_bad_input_gets_one_sentence(engine, question, context, options, message):
    with pytest.raises(ValueError, match=message):
        engine.answer(question, context, **options)


def test_a_model_for_another_task_is_refused(parts):
    model = tiny.make_model("bert", "classification", num_hidden_layers=1)
    engine = latadj_jax.Engine(model, tiny.random_params(model), parts[2], buckets=(8,))
    with pytest.raises(ValueError, match="answers with task 'question-answering'; this is for 'cl"):
        engine.answer("good", "word1")


def test_a_reranker_is_told_where_its_query_is(parts):
    """A query is as well protected as a question; without marks another token would stay."""
    model = tiny.make_model("bert", "ranking", num_hidden_layers=2).replace(protected=4, alpha=0.4)
    params, tokenizer = tiny.random_params(model), parts[2]
    engine = latadj_jax.Engine(model, params, tokenizer, buckets=(16,), batch_sizes=(1,))
    engine.warmup(repeats=1)
    query, document = "good word1 word2", "word4 bad word5 word6 word7 word8"
    batch = {key: value for key, value in tokenizer(query, document, return_tensors="np").items()}
    batch["protected"] = np.isin(np.arange(batch["input_ids"].shape[1]), (1, 2, 3))[None] * 1
    logit = float(latadj_jax.apply(model, params, batch, 0.4).logits[0, 0])
    (ranked,) = engine.rank(query, [document])
    assert ranked.score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
