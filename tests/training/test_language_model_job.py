"""Language-model runs: training on windows of text, perplexity, what they refuse."""

import copy
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import tiny_run
import tiny_text

import latadj_jax
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation import report
from latadj_jax.evaluation.perplexity import cache_bytes, evaluate_file
from latadj_jax.evaluation.settings import EvalSettings, LMSettings
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.training import train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import language_model
from latadj_jax.training.settings import from_config

pytestmark = pytest.mark.usefixtures("standard_promotion")


def settings(folder: Path, **changes):
    (folder / "text.txt").write_text(tiny_text.story(0, num_lines=400))
    scratch = {"vocab_size": 300, "hidden_size": 32, "num_layers": 2, "num_heads": 2,
               "max_positions": 48}  # fmt: skip
    values = {
        "workdir": str(folder / "run"),
        "mesh": {"data": 1},
        "model": {"source": "", "task": "lm", "dropout": 0.0, "scratch": scratch},
        "data": {"path": str(folder / "text.txt"), "eval_fraction": 0.1},
        "lm": {"window": 32, "stride": 16, "context": 24, "continuation": 8, "max_windows": 16},
        "elimination": {"alpha": 0.8, "calibration_examples": 0},
        "train": {"batch_size": 8, "max_steps": 40, "learning_rate": 1e-2, "log_every": 5,
                  "checkpoint_every": 20},
        "eval": {"metrics": ("perplexity",), "alphas": (0.8,), "batch_size": 8,
                 "timing_repeats": 1},
    }  # fmt: skip
    for section, change in changes.items():
        values[section] = {**values[section], **change}
    return from_config(values)


@pytest.fixture(scope="module", params=[0, 24], ids=["restored", "continuation"])
def run(request, tmp_path_factory):
    chosen = settings(tmp_path_factory.mktemp("lm"), lm={"prompt": request.param})
    return chosen, train.train(chosen)


def test_a_model_from_scratch_learns_and_its_perplexity_says_so(run):
    """Untrained, perplexity is near the size of the vocabulary; the story has 17 words."""
    chosen, results = run
    dense, pruned = results.rows
    assert dense.metrics["test"]["perplexity"] < 60
    assert pruned.metrics["test"]["perplexity"] < 80
    assert pruned.expected_speedup > 1.2
    assert pruned.cache_bytes < dense.cache_bytes
    assert results.examples == {"test": 16 * 8}
    losses = [json.loads(line)["loss"] for line in
              (Path(chosen.workdir) / "metrics.jsonl").read_text().splitlines()]  # fmt: skip
    assert losses[-1] < 0.8 * losses[0]


def test_the_artefact_holds_model_and_tokenizer_and_can_be_evaluated_again(run):
    chosen, results = run
    workdir = Path(chosen.workdir)
    model, _ = latadj_jax.from_pretrained(workdir / "model")
    assert (model.task, model.alpha) == ("lm", 0.8)
    assert model.config.eos_tokens == (0,)
    assert len(load_tokenizer(str(workdir / "model"))) == 300
    again = evaluate_run(workdir)
    for row, same in zip(results.rows, again.rows, strict=True):
        assert same.metrics["test"] == pytest.approx(row.metrics["test"], rel=1e-4)


@pytest.mark.parametrize("mode", ["whole", "sliding"])
def test_a_window_may_fill_the_positions_and_a_context_be_one_token(run, tmp_path, mode):
    """Fails if timing reads more tokens than the model has positions, or none."""
    file = tiny_text.write(tmp_path / "other.txt", tiny_text.story(9, num_lines=60))
    source, fast = str(Path(run[0].workdir) / "model"), EvalSettings(timing_repeats=1)
    filled = latadj_jax.from_pretrained(source)[0].config.max_positions
    context = filled - 8 if mode == "whole" else 1
    lm = LMSettings(context=context, continuation=8, mode=mode, max_windows=2)
    results = evaluate_file(source, [0.8], text=str(file), last_words=None, lm=lm, settings=fast)
    assert [row.alpha for row in results.rows] == [None, 0.8]


def test_any_text_and_last_words_can_be_scored(run, tmp_path):
    workdir = Path(run[0].workdir)
    file = tiny_text.write(tmp_path / "other.txt", tiny_text.story(9, num_lines=60))
    lm, fast = LMSettings(context=24, continuation=8, max_windows=6), EvalSettings(timing_repeats=1)
    source = str(workdir / "model")
    results = evaluate_file(source, [0.8], text=str(file), last_words=None, lm=lm, settings=fast)
    assert results.rows[1].metrics["other"]["perplexity"] < 100
    assert "dense and pruned in turns" in report.how(results)
    lines = [{"text": "the river of stone was seen by many who lived near"}, {"text": "old king"}]
    file = tiny_text.write(tmp_path / "words.jsonl", "\n".join(map(json.dumps, lines)))
    options = {"strategy": "recent", "layers": [2], "lm": lm, "settings": fast}
    results = evaluate_file(source, [], text=None, last_words=str(file), **options)
    assert [row.alpha for row in results.rows] == [None, 0.8]  # the model's own
    assert all(row.metrics["last_word"]["perplexity"] > 1 for row in results.rows)
    assert [share == 1 for share in results.rows[1].remaining] == [True, False]
    assert "strategy recent" in report.how(results)
    assert "in turns" not in report.how(results)  # nothing was timed


def test_a_tokenizer_may_have_a_token_more_than_its_model(tmp_path):
    """An unused <pad>: only a text that holds it is refused, by its name."""
    tokenizer = copy.deepcopy(tiny_text.byte_level())
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id == 310
    model, params = tiny.make("gpt2", "lm", vocab_size=310, num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path / "model", model, params, tokenizer)
    lm, fast = LMSettings(context=16, continuation=8, max_windows=2), EvalSettings(timing_repeats=1)
    score = functools.partial(evaluate_file, str(tmp_path / "model"), [], lm=lm, settings=fast)
    story = tiny_text.story(9, num_lines=20)
    file = tiny_text.write(tmp_path / "text.txt", story)
    assert score(text=str(file), last_words=None).rows[0].metrics["text"]["perplexity"] > 1
    tiny_text.write(file, f"{story} <pad>")
    with pytest.raises(ValueError, match=r"text\.txt has input_ids \d+\.\.310, .* 0\.\.309"):
        score(text=str(file), last_words=None)
    words = tiny_text.write(tmp_path / "words.jsonl", '{"text": "old king"}\n{"text": "a <pad>"}')
    with pytest.raises(ValueError, match=r"the last word of example 1 \(from 0\) has .*310"):
        score(text=None, last_words=str(words))

    given = {"source": str(tmp_path / "model")}
    tiny_text.write(file, story * 20)
    chosen = settings(tmp_path, model=given, data={"path": str(file)})
    assert len(language_model.load(chosen).data.examples) > 10
    tiny_text.write(file, f"{story * 20} <pad>\n")
    with pytest.raises(ValueError, match=r"the text test has input_ids .*310"):
        language_model.load(chosen)
    tiny_text.write(file, f"<pad> {story * 20}")
    with pytest.raises(ValueError, match=r"the training text has input_ids .*310"):
        language_model.load(chosen)


def test_an_interrupted_run_goes_on_to_the_same_end(run, tmp_path, monkeypatch):
    chosen = settings(tmp_path, lm={"prompt": run[0].lm.prompt})
    step = train.train_step

    def dies(what, state, *rest):
        if int(state.step) == 25:
            raise KeyboardInterrupt
        return step(what, state, *rest)

    monkeypatch.setattr(train, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train.train(chosen)
    monkeypatch.setattr(train, "train_step", step)
    train.train(chosen)
    models = [latadj_jax.from_pretrained(Path(s.workdir) / "model")[1] for s in (chosen, run[0])]
    jax.tree.map(np.testing.assert_array_equal, *models)


@pytest.mark.parametrize("family", tiny.CAUSAL)
def test_the_training_losses_are_what_they_say(family):
    """Without dropout: restored logits of the whole window, or those after a pruned prompt."""
    model, params = tiny.make(family, "lm", num_hidden_layers=2)
    model = model.replace(config=model.config.with_dropout(0.0))
    training_loss = jax.jit(tiny.mean_loss, static_argnums=(0, 3))
    ids = np.random.default_rng(0).integers(1, tiny.VOCAB, (3, 16)).astype(np.int32)
    batch = {"input_ids": ids, "labels": np.zeros(3), "weights": np.array([1, 1, 0], np.float32)}
    rngs = {"dropout": jax.random.key(0)}

    def mean(logits, targets):
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(targets))
        return float(loss[:2].mean())

    out = latadj_jax.apply(model, params, {"input_ids": ids}, 0.8, restore=True)
    whole = training_loss(model, params, batch, model.plan(0.8, 16), rngs)
    assert float(whole) == pytest.approx(mean(out.logits[:, :-1], ids[:, 1:]), rel=1e-5)
    prompt = {"input_ids": ids[:, :10]}
    logits = latadj_jax.continuation_logits(model, params, prompt, ids[:, 10:], 0.8)
    after = training_loss(model, params, batch, model.plan(0.8, 10), rngs)
    assert float(after) == pytest.approx(mean(logits[:, :-1], ids[:, 10:]), rel=1e-5)


def test_cache_bytes_are_the_bytes_of_the_caches():
    """Against the arrays themselves: a layer holds what entered it."""
    from latadj_jax.families.causal import read_prompt

    model, params = tiny.make("llama", "lm")
    plan = model.plan(0.8, 16)
    inputs = {"input_ids": np.zeros((1, 16), np.int32), "attention_mask": np.ones((1, 16), bool)}

    @jax.jit
    def caches_of(params):
        def prompt(network):
            return read_prompt(network.base, inputs, plan)

        return model.module.apply({"params": params}, method=prompt)[1]

    arrays = [array for cache in caches_of(params) for array in (cache.keys, cache.values)]
    assert cache_bytes(model, plan) == sum(array.nbytes for array in arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lm": {"window": 64}}, "config.lm.window is 64 tokens, the model has 48 positions"),
        ({"lm": {"context": 44}}, "config.lm.context .* is 52 tokens, the model has 48 positions"),
        ({"lm": {"prompt": 32}}, "config.lm.prompt must be 0, or less than lm.window"),
        ({"lm": {"mode": "leaky"}}, "config.lm.mode must be one of sliding, whole"),
        ({"model": {"task": "classification"}}, "names no model for a classification"),
        ({"data": {"path": "no such file.txt"}}, "no such file.txt"),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path, changes, message):
    with pytest.raises((SettingsError, ValueError), match=message):
        train.train(settings(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_a_text_shorter_than_a_context_is_refused_before_training(tmp_path):
    chosen = settings(tmp_path, data={"eval_fraction": 0.001})
    with pytest.raises(ValueError, match="none after a context of 24"):
        train.train(chosen)
    assert not (tmp_path / "run").exists()


def test_a_decoder_learns_to_classify_by_its_last_token(tmp_path):
    """GPT-2 as a classifier (paper, Table V), through the same command as BERT."""
    sizes = {"vocab_size": 310, "n_positions": 96, "num_hidden_layers": 2}
    model = tiny.make_model("gpt2", "classification", **sizes)
    params = latadj_jax.init_params(model)
    source = tmp_path / "gpt2"
    latadj_jax.save_pretrained(source, model, params, tiny_text.byte_level())
    chosen = from_config(
        tiny_run.config(
            tmp_path,
            model={"source": str(source)},
            data={"max_length": 96, "buckets": (96,), "truncate": True},
            train={"max_steps": 40, "learning_rate": 3e-3},
            eval={"alphas": (0.9,)},
        )
    )
    train.train(chosen)
    lines = (Path(chosen.workdir) / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]
    trained, _ = latadj_jax.from_pretrained(Path(chosen.workdir) / "model")
    assert (trained.task, trained.config.labels) == ("classification", ("bad", "good"))
