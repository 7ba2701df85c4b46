"""The lm-evaluation-harness adapter: its numbers are those of `apply`, and the harness runs it."""

import json

import jax
import numpy as np
import pytest
import tiny
import tiny_text

import latadj_jax
from latadj_jax.pretrained.tokenizers import load_tokenizer

pytest.importorskip("lm_eval")
from lm_eval.api.instance import Instance

from latadj_jax.harness import __main__, language_model
from latadj_jax.harness.tasks import local_data
from latadj_jax.training.jobs import seq2seq

CONTEXT = "the river of stone was seen by many who lived"
PROFILE = latadj_jax.Profile.constant(2, 0.7)


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp(request.param))


def save(family, path):
    """A tiny model and its tokenizer, with a profile and alpha 0.8."""
    seq = family == "t5"
    text = tiny_text.story(0)
    tokenizer = seq2seq.train_tokenizer([text], 310) if seq else tiny_text.byte_level()
    sizes = {} if seq else {"n_positions": 256, "eos_token_id": 0}
    model, params = tiny.make(
        family, "seq2seq" if seq else "lm", vocab_size=310, num_hidden_layers=2, **sizes
    )
    model = model.replace(profile=PROFILE, alpha=0.8)
    latadj_jax.save_pretrained(path, model, params, tokenizer)
    return path


def requests_of(kind, *arguments):
    return [Instance(kind, {}, args, n) for n, args in enumerate(arguments)]


def reference(folder, context, continuation, alpha):
    """(log-likelihood, whether greedy), with no padding and no batch."""
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    if model.task == "seq2seq":
        before = tokenizer.encode(context)
        after = tokenizer.encode(continuation, add_special_tokens=False)
    else:
        before = tokenizer.encode(context)
        after = tokenizer.encode(context + continuation)[len(before) :]
    ids = np.array([after], np.int32)
    prompt = {"input_ids": np.array([before], np.int32)}
    logits = latadj_jax.continuation_logits(model, params, prompt, ids, alpha)[0, :-1]
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    total = log_probs[np.arange(len(after)), after].sum()
    return float(total), bool((log_probs.argmax(axis=1) == after).all())


@pytest.mark.parametrize("alpha", ["dense", 0.6])
def test_likelihoods_are_those_of_the_continuation(folder, alpha):
    """Of one token and of several, in whatever batch they come."""
    lm = language_model.Latadj(str(folder), alpha=alpha, batch_size=3)
    pairs = [(CONTEXT, " near"), ("a", " small old house"), (CONTEXT, " x"), (CONTEXT, " near the")]
    got = lm.loglikelihood(requests_of("loglikelihood", *pairs), disable_tqdm=True)
    exact = None if alpha == "dense" else alpha
    for (context, continuation), (log_prob, greedy) in zip(pairs, got, strict=True):
        expected = reference(folder, context, continuation, exact)
        assert (log_prob, greedy) == (pytest.approx(expected[0], abs=2e-4), expected[1])


def test_alpha_is_the_models_own_unless_one_is_given(folder):
    own, given, dense = (
        language_model.Latadj(str(folder), **options).loglikelihood(
            requests_of("loglikelihood", (CONTEXT, " near the")), disable_tqdm=True
        )
        for options in ({}, {"alpha": "0.8"}, {"alpha": "dense"})
    )
    assert own == given != dense


def test_a_long_context_loses_its_oldest_tokens(folder):
    lm = language_model.Latadj(str(folder), alpha="dense", max_length=16)
    context, target = tuple(range(5, 45)), (7, 8)
    kept, _ = lm._pair(context, target)
    assert kept == context[-16:] if lm.backend == "seq2seq" else kept == context[-15:]


def test_pairs_that_fill_the_models_positions_share_a_batch(tmp_path):
    """Padded together they are longer than any of them, and than the model's 256 positions."""
    lm = language_model.Latadj(str(save("gpt2", tmp_path)), alpha="dense", batch_size=2)
    pairs = [(tuple(range(5, 255)), (7, 8, 9, 4, 5, 6)), (tuple(range(20, 260)), tuple(range(16)))]
    together, alone = lm._score(pairs), [lm._score([pair])[0] for pair in pairs]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert np.isfinite(together).all()
    with pytest.raises(ValueError, match=r"has 258 tokens, .* the model has 256 positions"):
        lm._score([(tuple(range(5, 257)), (7, 8, 9, 4, 5, 6))])


def test_rolling_likelihood_scores_every_token_once(tmp_path):
    """Dense, a text that fits is one pass: the start token, then all of it."""
    folder = save("gpt2", tmp_path)
    lm = language_model.Latadj(str(folder), alpha="dense", max_length=200)
    (total,) = lm.loglikelihood_rolling(
        requests_of("loglikelihood_rolling", (CONTEXT,)), disable_tqdm=True
    )
    model, params = latadj_jax.from_pretrained(folder)
    ids = np.array([[0, *lm.tok_encode(CONTEXT)]], np.int32)
    logits = latadj_jax.apply(model, params, {"input_ids": ids}).logits[0, :-1]
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    expected = log_probs[np.arange(ids.shape[1] - 1), ids[0, 1:]].sum()
    assert total == pytest.approx(float(expected), abs=1e-3)


def test_texts_are_generated_up_to_a_stop(folder):
    lm = language_model.Latadj(str(folder), alpha=0.6, batch_size=2)
    model, params = latadj_jax.from_pretrained(folder)
    contexts = [CONTEXT, "old king", "a"]
    prompts = [np.array([lm.tok_encode(context)], np.int32) for context in contexts]
    whole = [
        lm.tokenizer.decode(
            latadj_jax.generate(model, params, {"input_ids": ids}, 0.6, 12)[0],
            skip_special_tokens=True,
        )
        for ids in prompts
    ]
    stop = next(text[3] for text in whole if len(text) > 3)
    options = {"until": [stop], "max_gen_toks": 12}
    got = lm.generate_until(
        requests_of("generate_until", *((context, options) for context in contexts)),
        disable_tqdm=True,
    )
    assert got == [text.split(stop)[0] for text in whole]


def test_texts_of_beams_are_those_of_generate(folder):
    lm = language_model.Latadj(str(folder), alpha=0.6, batch_size="auto:4")
    model, params = latadj_jax.from_pretrained(folder)
    ids = np.array([lm.tok_encode(CONTEXT)], np.int32)
    rows = latadj_jax.generate(model, params, {"input_ids": ids}, 0.6, 6, num_beams=3)
    (wanted,) = lm.tokenizer.batch_decode(np.asarray(rows).tolist(), skip_special_tokens=True)
    options = {"until": [], "max_gen_toks": 6, "num_beams": 3}
    requests = requests_of("generate_until", (CONTEXT, options))
    assert lm.generate_until(requests, disable_tqdm=True) == [wanted]


def test_random_elimination_and_sampling_repeat_from_their_seeds(folder):
    """Copies of a request in several batches are draws of their own."""
    options = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 5.0}
    copies = requests_of("generate_until", *[(CONTEXT, options)] * 4)
    args = {"alpha": 0.6, "strategy": "random", "batch_size": 2}
    texts = [
        language_model.Latadj(str(folder), seed=seed, **args).generate_until(
            copies, disable_tqdm=True
        )
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_gen_toks": 40}, "max_gen_toks 40 leaves no room for a context in max_length 32"),
        ({"num_beam": 3}, "option 'num_beam' is not known"),
    ],
)
def test_requests_that_cannot_be_generated_are_refused(tmp_path, options, message):
    lm = language_model.Latadj(str(save("gpt2", tmp_path)), max_length=32)
    with pytest.raises(ValueError, match=message):
        lm.generate_until(requests_of("generate_until", (CONTEXT, options)), disable_tqdm=True)


BAD = {
    "argument": ({"apha": 0.9}, "unknown 'apha'"),
    "alpha": ({"alpha": -1.0}, "alpha"),
    "layers": ({"layers": "1+9"}, "layer"),
    "layers, a range": ({"layers": "1-2"}, r"layers takes numbers of layers, e.g. 4\+19"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_model_args_are_one_sentence(folder, options, message):
    with pytest.raises(ValueError, match=message):
        language_model.Latadj(str(folder), **options)


def test_a_model_that_writes_nothing_is_refused(tmp_path):
    model, params = tiny.make("bert", "features", num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params)
    with pytest.raises(ValueError, match="needed is a language model"):
        language_model.Latadj(str(tmp_path))


# Tasks with local data.


def write_mmlu(path):
    for part, rows in (("dev", 6), ("test", 3)):
        (path / part).mkdir()
        for subject in ("old_stones", "small_houses"):
            lines = [f'"Which {subject}, {n}? ",a,"b, c",d,e,{"ABCD"[n % 4]}' for n in range(rows)]
            (path / part / f"{subject}_{part}.csv").write_text("\n".join(lines))


def test_mmlu_questions_follow_five_of_their_subject(tmp_path):
    write_mmlu(tmp_path)
    docs = local_data.mmlu(str(tmp_path))["test"]
    assert list(docs["subject"])[:3] == ["old_stones", "small_houses", "old_stones"]
    prompt, answer = docs[1]["prompt"], docs[2]["answer"]
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about small houses.\n\n"
        "Which small_houses, 0?\nA. a\nB. b, c\nC. d\nD. e\nAnswer: A\n\nWhich small_houses, 1?"
    )
    assert prompt.endswith(
        "D. e\nAnswer: A\n\nWhich small_houses, 0?\nA. a\nB. b, c\nC. d\nD. e\nAnswer:"
    )
    assert (prompt.count("Answer:"), answer) == (6, "B")


CHAIN = """canary
-----
Say which.

Q: A or B?
A: Let's think step by step.
So the answer is no. But it is so.
So the answer is (A).

Q: How
many?
A: Let's think step by step.
So the answer is 3."""  # fmt: skip


def test_bbh_prompts_have_answers_without_reasoning(tmp_path):
    (tmp_path / "cot-prompts").mkdir()
    (tmp_path / "cot-prompts" / "which.txt").write_text(CHAIN)
    (tmp_path / "which.json").write_text(
        json.dumps({"examples": [{"input": "x", "target": "(B)"}]})
    )
    (doc,) = local_data.bbh(str(tmp_path))["test"]
    assert doc == {
        "subject": "which",
        "prompt": "Say which.\n\nQ: A or B?\nA: (A)\n\nQ: How\nmany?\nA: 3\n\nQ: x\nA:",
        "answer": "(B)",
    }
    (tmp_path / "bbh").mkdir()  # as a clone has it
    (tmp_path / "which.json").rename(tmp_path / "bbh" / "which.json")
    assert local_data.bbh(str(tmp_path))["test"][0] == doc
    (tmp_path / "bbh" / "which.json").unlink()
    with pytest.raises(ValueError, match=r"has no which\.json for which\.txt"):
        local_data.bbh(str(tmp_path))


@pytest.mark.parametrize("given", ["", "nowhere"])
def test_a_missing_data_folder_is_one_sentence(given):
    for task in (local_data.mmlu, local_data.bbh):
        with pytest.raises(ValueError, match=r"pass --metadata"):
            task(given)


@pytest.mark.parametrize("given", [["--include_path", "mine"], ["--include_path=mine"]])
def test_a_task_folder_of_ones_own_is_not_overruled(monkeypatch, given):
    """Of two, argparse takes the last."""
    argv = ["harness", "--tasks", "mmlu_local", *given]
    monkeypatch.setattr("sys.argv", list(argv))
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: None)
    __main__.main()
    assert __main__.sys.argv == argv


def test_the_harness_runs_it_by_name(folder, tmp_path, monkeypatch, capsys):
    """Its own command line, with the task's data named on it."""
    write_mmlu(tmp_path)
    out = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv",
        ["harness", "--model", "latadj_jax", "--model_args", f"path={folder},alpha=0.6",
         "--tasks", "mmlu_local", "--metadata", json.dumps({"mmlu": str(tmp_path)}),
         "--batch_size", "2", "--limit", "4", "--output_path", str(out)],
    )  # fmt: skip
    __main__.main()
    assert "mmlu_local" in capsys.readouterr().out
    (results,) = out.rglob("results*.json")
    results = json.loads(results.read_text())
    assert 0 <= results["results"]["mmlu_local"]["exact_match,get_response"] <= 1
    assert results["n-samples"]["mmlu_local"] == {"original": 6, "effective": 4}
