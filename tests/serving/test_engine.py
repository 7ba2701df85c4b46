"""Serving: order, padding, compilations, threads, bad input."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_run
from tiny_engine import ALPHAS, BUCKETS, TEXTS, make
from tolerance import SAME

import latadj_jax
from latadj_jax.serving.batches import batches
from latadj_jax.serving.programs import Shape


def one_by_one(parts, texts, alpha):
    model, params, tokenizer = parts
    rows = []
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        batch = {k: v for k, v in tokenizer(*pair, return_tensors="np").items()}
        rows.append(latadj_jax.apply(model, params, batch, alpha).logits[0])
    return np.array(rows)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_results_are_those_of_apply_in_the_order_asked(parts, engine, alpha):
    expected = one_by_one(parts, TEXTS, alpha)
    np.testing.assert_allclose(engine(TEXTS, alpha=alpha), expected, **SAME)
    np.testing.assert_allclose(
        engine(TEXTS[::-1], alpha=alpha), expected[::-1], **SAME, err_msg="reversed"
    )


def test_pairs_and_token_ids_are_texts_too(parts, engine):
    texts = [("good word1", "bad word2"), "word3 good"]
    expected = one_by_one(parts, texts, 0.6)
    ids = parts[2]("word3 good")["input_ids"]
    np.testing.assert_allclose(engine([texts[0], ids], alpha=0.6), expected, **SAME)


def test_texts_may_be_a_column_of_a_table(engine):
    column = pd.Series(TEXTS, index=range(len(TEXTS), 0, -1))
    np.testing.assert_array_equal(engine(column), engine(TEXTS))
    np.testing.assert_array_equal(engine(iter(TEXTS)), engine(TEXTS))


def test_each_alpha_gives_other_logits(engine):
    """The tests below tell by the logits which alpha was taken, of this text."""
    logits = np.concatenate([engine([TEXTS[2]], alpha=alpha) for alpha in ALPHAS])
    assert len(np.unique(logits.round(3), axis=0)) == len(ALPHAS)


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [(3, [1, 1, 1]), (4, [8]), (8, [8]), (17, [8, 8, 1]), (21, [8, 8, 8]), (70, [32, 32, 8])],
)
def test_batches_have_few_fillers(texts, sizes):
    examples = [{"input_ids": np.zeros(5, np.int32)}] * texts
    found = list(batches(examples, (4, 8), (1, 8, 32)))
    assert [(length, size) for _, length, size in found] == [(8, size) for size in sizes]
    assert np.concatenate([indices for indices, _, _ in found]).tolist() == list(range(texts))


def test_by_default_it_runs_at_the_alpha_that_the_model_carries(engine):
    np.testing.assert_array_equal(engine(TEXTS), engine(TEXTS, alpha=0.9))
    assert not np.allclose(engine(TEXTS), engine(TEXTS, alpha=None), atol=1e-3)


def test_warmup_compiles_everything_and_nothing_comes_after(parts, count_compilations):
    engine = make(parts, alphas=(None,), buckets=BUCKETS, batch_sizes=(4,)).warmup(repeats=1)
    assert engine.compilations == len(BUCKETS) * len((1, 4)) * len((None, 0.9))
    before = count_compilations()
    for n in range(1, 12):
        for alpha in (None, 0.9):
            engine((TEXTS * 2)[:n], alpha=alpha)
    engine(TEXTS, speedup=1.0)
    assert count_compilations() == before


def test_without_a_warm_up_it_compiles_what_texts_need(parts, engine):
    """Two of six programs; what needs measured times says so."""
    lazy = make(parts, alphas=(None, 0.6), buckets=BUCKETS, batch_sizes=(1, 8)).compile_as_needed()
    np.testing.assert_allclose(lazy(TEXTS[:2], alpha=0.6), engine(TEXTS[:2], alpha=0.6), **SAME)
    assert lazy.compilations == 1
    lazy(["good"], alpha=None)
    lazy(TEXTS[:2], alpha=0.6)
    assert lazy.compilations == 2
    with pytest.raises(ValueError, match="latency_ms needs the times that warmup"):
        lazy(TEXTS, latency_ms=50)
    with pytest.raises(RuntimeError, match="call warmup"):
        lazy.submit("good")


def test_it_refuses_to_serve_before_warmup(parts):
    with pytest.raises(RuntimeError, match=r"warmup\(\)"):
        make(parts)(TEXTS)


def test_threads_get_what_they_asked_for(engine):
    texts = TEXTS * 5
    expected = {alpha: engine(texts, alpha=alpha) for alpha in ALPHAS}

    def ask(n):
        return engine([texts[n]], alpha=ALPHAS[n % 3])[0]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(len(texts))))
    for n, answer in enumerate(answers):
        np.testing.assert_allclose(answer, expected[ALPHAS[n % 3]][n], **SAME)


def test_batches_of_one_call_run_at_the_same_time_and_keep_the_order(engine, monkeypatch):
    """Each waits for another; one after another they would wait for ever."""
    expected = engine(TEXTS, alpha=0.6)
    both, run = threading.Barrier(2, timeout=30), engine._programs.run

    def beside_another(shape, examples):
        both.wait()
        return run(shape, examples)

    monkeypatch.setattr(engine._programs, "at_once", 2)
    monkeypatch.setattr(engine._programs, "run", beside_another)
    work = list(batches(engine.job(TEXTS).encode(), engine.buckets, engine.batch_sizes))
    assert len(work) % 2 == 0
    np.testing.assert_array_equal(engine(TEXTS, alpha=0.6), expected)


def test_submitted_requests_share_batches_and_get_their_own_answers(parts, monkeypatch):
    with make(parts, batch_sizes=(4,), max_wait_ms=20_000).warmup(repeats=1) as engine:
        shapes = []
        run = engine._programs.run
        monkeypatch.setattr(
            engine._programs, "run", lambda s, e: (shapes.append((s, len(e))), run(s, e))[1]
        )
        futures = [engine.submit(text, alpha=0.9) for text in ("good", "bad", "word1", "word2")]
        answers = np.array([future.result(timeout=30) for future in futures])
        assert shapes == [(Shape(24, 4, 0.9), 4)]
        expected = engine(["good", "bad", "word1", "word2"])
        np.testing.assert_allclose(answers, expected, **SAME)


def test_one_bad_request_spoils_no_other(parts):
    with make(parts, max_wait_ms=100).warmup(repeats=1) as engine:
        future = engine.submit("good")
        with pytest.raises(ValueError, match="text 0 has 102 tokens, the largest bucket 24"):
            engine.submit("word1 " * 100)
        assert future.result(timeout=30).shape == (3,)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit("good")


def test_a_closed_engine_takes_no_first_request_either(parts):
    engine = make(parts).warmup(repeats=1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit("good")
    assert engine(["good"]).shape == (1, 3)


def test_the_tokenizer_that_is_given_stays_as_it_is(parts):
    """Engines that share it would switch each other's cutting on and off."""
    before = parts[2].backend_tokenizer.truncation
    make(parts, truncate=True).warmup(repeats=1)(["good " * 40])
    assert parts[2].backend_tokenizer.truncation == before


def test_ids_that_the_model_does_not_know_are_refused(engine, monkeypatch, tmp_path):
    """Its embedding would make them NaN."""
    larger = tiny_run.tokenizer(tmp_path)
    larger.add_tokens([f"new{n}" for n in range(60)])
    monkeypatch.setattr(engine, "tokenizer", larger)
    with pytest.raises(ValueError, match=r"text 1 has input_ids 2\.\.106, the model knows 0\.\.99"):
        engine(["good", "bad new59"])


def test_half_an_emoji_is_one_unknown_character_of_its_text(engine):
    """JSON that was cut inside of an emoji: the others of its call are answered too."""
    cut = ["good word1", "bad \ud83d", ("word2", "\udcff good")]
    whole = ["good word1", "bad \ufffd", ("word2", "\ufffd good")]
    np.testing.assert_array_equal(engine(cut), engine(whole))


def test_longer_texts_are_cut_if_that_is_wanted(parts):
    engine = make(parts, truncate=True).warmup(repeats=1)
    ids = parts[2]("good " * 40)["input_ids"]
    cut = parts[2]("good " * 40, truncation=True, max_length=24)["input_ids"]
    np.testing.assert_array_equal(engine(["good " * 40]), engine([cut]))
    np.testing.assert_array_equal(engine([ids]), engine([ids[:24]]))


def test_nothing_asked_is_nothing_answered(engine):
    assert engine([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("good", {}, "one string"),
        ([3], {}, "text 0 must be"),
        ([[1, 99999]], {}, r"text 0 has input_ids 1\.\.99999, the model knows 0\.\.99"),
        ([[1, 2**32]], {}, r"text 0 has input_ids 1\.\.4294967296, the model knows"),
        ([list(range(30))], {}, "text 0 has 30 tokens, the largest bucket 24"),
        ([[5], "good " * 40], {}, "text 1 has 42 tokens, the largest bucket 24"),
        (["good"], {"alpha": 0.5}, "alpha 0.5 was not compiled"),
        (["good"], {"alpha": 0.9, "speedup": 2}, "exclude each other"),
        (["good"], {"speedup": 2, "infeasible": "no"}, "infeasible must be"),
        (["good"], {"speedup": "2"}, "speedup must be a number greater than 0; it is '2'"),
        (["good"], {"speedup": -2}, "speedup must be"),
        (["good"], {"latency_ms": "5"}, "latency_ms must be a number"),
    ],
)
def test_bad_requests_get_one_sentence(engine, texts, options, message):
    with pytest.raises(ValueError, match=message):
        engine(texts, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": (0.0,)}, "alpha must be finite"),
        ({"buckets": (8, 400)}, "the bucket 400 is longer"),
        ({"batch_sizes": (0,)}, "batch_sizes must be"),
        ({"batch_sizes": 8}, "batch_sizes must be a list.*it is 8"),
        ({"buckets": 16}, "buckets must be a list.*it is 16"),
        ({"alphas": 0.9}, "alphas must be a list.*it is 0.9"),
    ],
)
def test_bad_engines_get_one_sentence(parts, options, message):
    with pytest.raises(ValueError, match=message):
        make(parts, **options)


def test_parameters_of_another_model_are_refused_at_once(parts):
    model, params, tokenizer = parts
    with pytest.raises(ValueError, match="params are not this model's"):
        latadj_jax.Engine(model, {**params, "layer_0": {}}, tokenizer)


def test_numbers_of_numpy_are_numbers(parts, tmp_path):
    """The file of latencies holds them too."""
    engine = make(
        parts, alphas=np.float32([0.5]), buckets=np.array([8]), batch_sizes=[np.int64(1)],
        latency_file=tmp_path / "latencies.json",
    ).warmup(repeats=1)  # fmt: skip
    assert engine.alphas[-1] == 0.5
    assert engine(["good"], alpha=0.5).shape == (1, 3)


def test_an_engine_serves_what_gives_a_row_for_each_text_or_token(parts):
    model = tiny.make_model("bert", "features")
    with pytest.raises(ValueError, match=r"serves embedding, .*for 'features'"):
        latadj_jax.Engine(model, tiny.random_params(model), parts[2])


def test_a_model_without_token_types_is_served_as_it_is_applied(tmp_path):
    """RoBERTa's tokenizer makes none, and its classifier has no pooler."""
    words = tiny_run.tokenizer(tmp_path)
    words.model_input_names = ["input_ids", "attention_mask"]
    model = tiny.make_model("roberta", "classification", num_hidden_layers=2)
    roberta = model.replace(strategy="merge", alpha=0.8), tiny.random_params(model), words
    texts = [TEXTS[0], ("good word1", "bad word2")]
    with make(roberta, alphas=(None,)) as engine:
        engine.warmup(repeats=1)
        for alpha in (None, 0.8):
            expected = one_by_one(roberta, texts, alpha)
            np.testing.assert_allclose(engine(texts, alpha=alpha), expected, **SAME)


def test_a_prompt_is_for_embedding_models(engine):
    with pytest.raises(ValueError, match="prompt is for embedding models; this is for 'classific"):
        engine(["good"], prompt="query")
