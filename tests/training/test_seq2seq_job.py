"""Runs on pairs of texts: a T5 from scratch, its loss, what it writes, and what is refused."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
import tiny_run
import tiny_text

import latadj_jax
from latadj_jax.data.encoded import Encoded, collate
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.errors import DataError
from latadj_jax.evaluation import generated_text
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.seq2seq import SEQ2SEQ
from latadj_jax.training import train
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.jobs import seq2seq
from latadj_jax.training.settings import from_config

pytestmark = pytest.mark.usefixtures("standard_promotion")


def settings(folder: Path, **changes):
    return from_config(tiny_run.seq2seq_config(folder, **changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    chosen = settings(tmp_path_factory.mktemp("seq2seq"))
    return chosen, train.train(chosen)


def test_a_model_from_scratch_learns_what_to_write(run):
    """Without its source it could be right half the time."""
    _, results = run
    for row in results.rows:
        assert row.metrics["test"]["exact_match"] > 0.7
        assert list(row.metrics["test"]) == ["exact_match", "bleu"]
    assert results.rows[1].expected_speedup > 1.2
    assert results.num_beams == 1


def test_the_artefact_writes_the_same_and_so_does_transformers(run):
    chosen, results = run
    folder = Path(chosen.workdir) / "model"
    again = evaluate_run(Path(chosen.workdir))
    assert [row.metrics for row in again.rows] == [row.metrics for row in results.rows]
    model, params = latadj_jax.from_pretrained(folder)
    assert (model.task, model.alpha, model.config.decoder_start) == ("seq2seq", 0.8, 0)
    tokenizer = load_tokenizer(str(folder))
    source = tokenizer(["word1 word2 good word3"], return_tensors="np")
    assert source["input_ids"][0, -1] == tokenizer.eos_token_id == 1
    batch = {key: source[key] for key in ("input_ids", "attention_mask")}
    tokens = latadj_jax.generate(model, params, batch, None, 8)

    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    batch = {key: torch.from_numpy(value) for key, value in batch.items()}
    expected = theirs.generate(**batch, max_new_tokens=8, do_sample=False).numpy()[:, 1:]
    np.testing.assert_array_equal(tokens[:, : expected.shape[1]], expected)


def test_beams_write_texts_too(run):
    chosen, _ = run
    model, params = latadj_jax.from_pretrained(Path(chosen.workdir) / "model")
    tokenizer = load_tokenizer(str(Path(chosen.workdir) / "model"))
    _, parts, _ = load_examples(chosen.data, SEQ2SEQ)
    data = seq2seq.encode_pairs(tokenizer, parts["test"], chosen.data)
    plans = {64: model.plan(None, 64)}
    texts = [
        generated_text.write(model, params, tokenizer, data, plans, eval_settings, 8, "")
        for eval_settings in (chosen.eval, settings(Path(chosen.workdir).parent,
                                                    eval={"num_beams": 3}).eval)
    ]  # fmt: skip
    assert len(texts[0]) == len(texts[1]) == len(parts["test"])
    assert np.mean([a == b for a, b in zip(*texts, strict=True)]) > 0.8


def test_the_loss_is_that_of_transformers(tmp_path):
    """The mean over all target tokens of a batch, those of weight 0 left out."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params = tiny.make("t5", "seq2seq")
    model = model.replace(config=model.config.with_dropout(0.0))
    batch, _ = tiny.mixed_batch("t5")
    labels = np.random.default_rng(0).integers(1, tiny.VOCAB, (4, 7)).astype(np.int32)
    labels[np.arange(7) >= np.array([[7], [2], [5], [4]])] = -1
    weights = np.array([1, 1, 1, 0], np.float32)
    rngs = {"dropout": jax.random.key(0)}
    ours = tiny.mean_loss(
        model, params, {**batch, "labels": labels, "weights": weights}, model.plan(None, 16), rngs
    )
    latadj_jax.save_pretrained(tmp_path, model, params)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    tensors = {key: torch.from_numpy(value[:3].astype(np.int64)) for key, value in batch.items()}
    targets = torch.from_numpy(np.where(labels < 0, -100, labels)[:3].astype(np.int64))
    expected = theirs(**tensors, labels=targets).loss
    assert float(ours) == pytest.approx(float(expected.detach()), rel=1e-5)
    pruned = tiny.mean_loss(
        model, params, {**batch, "labels": labels, "weights": weights}, model.plan(0.8, 16), rngs
    )
    assert float(pruned) != pytest.approx(float(ours), rel=1e-3)


def test_targets_of_a_batch_are_cut_to_its_longest():
    labels = np.full((3, 40), -1, np.int32)
    labels[0, :40], labels[1, :3], labels[2, :17] = 1, 2, 3
    examples = [{"input_ids": np.ones(4, np.int32)}] * 3
    data = Encoded(examples, labels, "target")
    widths = [
        collate(data, np.array(rows), 16, 2)["labels"].shape for rows in ([1], [1, 2], [0, 1])
    ]
    assert widths == [(2, 16), (2, 24), (2, 40)]


def test_calibration_runs_the_encoder_alone():
    model, params = tiny.make("t5", "seq2seq")
    batch, _ = tiny.mixed_batch("t5")
    profile = latadj_jax.calibrate(model, params, [batch])
    with_targets = {**batch, "decoder_input_ids": np.ones((4, 2), np.int32)}
    assert latadj_jax.calibrate(model, params, [with_targets]) == profile
    assert latadj_jax.calibrate(model.encoder, params, [batch]) == profile


# Data.


def parallel(folder: Path, **files: str):
    for name, text in files.items():
        tiny_text.write(folder / name.replace("_", "."), text)
    return settings(
        folder,
        data={"path": str(folder), "train_file": "train.en", "eval_files": ("val.en",),
              "text_columns": ("en",), "label_column": "de"},
    ).data  # fmt: skip


def test_parallel_files_are_pairs(tmp_path):
    """A line is a row, whatever other line ends it holds."""
    data = parallel(tmp_path, train_en="a\u0085b\nc\n", train_de="A\r\nC", val_en="d", val_de="D\n")
    train, evals, names = load_examples(data, SEQ2SEQ)
    assert (train.texts, train.labels.tolist()) == ([("a\u0085b",), ("c",)], ["A", "C"])
    assert (evals["val"].texts, evals["val"].labels.tolist()) == ([("d",)], ["D"])
    assert names == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train_en": "a"}, "train.en has no file 'train.de' beside it"),
        ({"train_en": "a\nb", "train_de": "A"}, r"train.en and train.de must have equally many"),
        ({"train_en": "a\n\nb", "train_de": "A\nB\nC"}, "train.en, row 2: the text is empty"),
        ({"train_en": "a\nb", "train_de": "A\n \n"}, "train.en, row 2: the target ' ' is no text"),
    ],
)
def test_pairs_that_cannot_be_used_are_named(tmp_path, files, message):
    data = parallel(tmp_path, **files, val_en="d", val_de="D")
    with pytest.raises(DataError, match=message):
        load_examples(data, SEQ2SEQ)


def test_a_tokenizer_that_ends_no_text_is_refused():
    data = settings_data()
    with pytest.raises(DataError, match="ends no text with an end-of-sequence token"):
        seq2seq.encode_pairs(
            tiny_text.byte_level(), Examples([("a",)], np.array(["b"], object)), data
        )


def test_a_target_ends_with_the_tokenizers_own_end_of_text(tmp_path):
    """It is what is learned, so generation stops at it, whatever config.json says."""
    model, params = tiny.make("t5", "seq2seq", vocab_size=310, num_hidden_layers=1, eos_token_id=9)
    tokenizer = seq2seq.train_tokenizer([tiny_text.story(0)], 310)
    latadj_jax.save_pretrained(tmp_path / "model", model, params, tokenizer)
    assert tokenizer.eos_token_id != 9
    given = {"source": str(tmp_path / "model"), "task": "seq2seq"}
    job = seq2seq.load(from_config(tiny_run.seq2seq_config(tmp_path, model=given)))
    assert job.model.config.eos_tokens == (9, tokenizer.eos_token_id)


def settings_data():
    return from_config(
        {"workdir": "run", "model": {"task": "seq2seq", "source": ""},
         "data": {"path": "x.csv", "max_target_length": 8},
         "eval": {"metrics": ("bleu",)}}
    ).data  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"label_column": "text", "truncate": False, "max_length": 999}},
         "longer than config.data.max_target_length"),
        ({"data": {"max_length": 16, "truncate": False, "buckets": ()}},
         r"longer than config.data.max_length"),
        ({"data": {"text_columns": ("text", "label")}}, "text_columns must be one, the source"),
        ({"model": {"scratch": {"hidden_size": 30, "num_heads": 4}}}, "a multiple of 4 heads"),
        ({"model": {"scratch": {"vocab_size": 258}}}, "vocab_size must be at least 259"),
        ({"eval": {"metrics": ("accuracy",)}}, "one of bleu, chrf, exact_match"),
        ({"eval": {"num_beams": 0}}, "num_beams must be greater than 0"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train.train(settings(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_an_encoder_alone_is_no_seq2seq_model(tmp_path):
    model, params = tiny.make("t5", "features")
    latadj_jax.save_pretrained(tmp_path, model, params)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["T5EncoderModel"]
    with pytest.raises(ValueError, match="decoder"):
        latadj_jax.from_pretrained(tmp_path, "seq2seq")


def test_metrics_are_those_of_sacrebleu():
    texts = ["the cat sat on the mat", "a dog", "a bird sings"]
    scores = generated_text.text_metrics(("bleu", "chrf", "exact_match"), texts, texts)
    assert scores == pytest.approx({"bleu": 100, "chrf": 100, "exact_match": 1})
    other = ["the cat sat on a mat", "a dog ", "birds"]
    scores = generated_text.text_metrics(("bleu", "chrf", "exact_match"), texts, other)
    assert 0 < scores["bleu"] < scores["chrf"] < 100
    assert scores["exact_match"] == pytest.approx(1 / 3)


def test_without_sacrebleu_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ValueError, match=r"needs sacrebleu, .*latadj_jax\[seq2seq\]"):
        train.train(settings(tmp_path))
    assert not (tmp_path / "run").exists()
