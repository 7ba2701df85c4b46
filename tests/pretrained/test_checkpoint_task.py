"""What a checkpoint is for, and what ends its texts, where files say it in other ways."""

import json

import pytest
import tiny
import tiny_text

import latadj_jax
from latadj_jax import from_pretrained
from latadj_jax.pretrained.load import language_model_task


def edit(folder, **changes):
    """Its config.json with other values; None takes a key out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("family", "task", "architecture"),
    [
        ("t5", "seq2seq", "T5WithLMHeadModel"),  # of t5-3b
        ("t5", "seq2seq", "FlaxT5ForConditionalGeneration"),
        ("llama", "lm", "LLaMAForCausalLM"),
        ("gpt2", "lm", "TFGPT2LMHeadModel"),
        ("bert", "classification", "TFBertForSequenceClassification"),
        ("bert", "features", "FlaxBertModel"),
    ],
)
def test_older_names_of_a_class_read_as_what_they_are(family, task, architecture, tmp_path, caplog):
    model, params = tiny.make(family, task, num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params)
    edit(tmp_path, architectures=[architecture])
    assert from_pretrained(tmp_path)[0].task == task
    assert not caplog.text


@pytest.mark.parametrize("names", [None, []])
def test_a_checkpoint_without_architectures_is_guessed_and_the_guess_is_logged(
    names, tmp_path, caplog
):
    model, params = tiny.make("gpt2", "lm", num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params)
    edit(tmp_path, architectures=names)
    assert from_pretrained(tmp_path)[0].task == "features"
    assert "names no architectures: read as features; name another task=" in caplog.text
    caplog.clear()
    assert from_pretrained(tmp_path, task="lm")[0].task == "lm"
    assert "architectures" not in caplog.text


@pytest.mark.parametrize(
    ("family", "task", "architectures", "expected"),
    [
        ("gpt2", "lm", ["GPT2LMHeadModel"], "lm"),
        ("gpt2", "lm", None, "lm"),
        ("llama", "lm", ["LlamaModel"], "lm"),
        ("t5", "seq2seq", None, "seq2seq"),
        ("t5", "seq2seq", ["T5WithLMHeadModel"], "seq2seq"),
    ],
)
def test_the_task_of_a_language_model(family, task, architectures, expected, tmp_path, caplog):
    model, params = tiny.make(family, task, num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params)
    edit(tmp_path, architectures=architectures)
    assert language_model_task(tmp_path) == expected
    guessed = architectures in (None, ["LlamaModel"])
    assert (f"read for '{expected}'; name another task=" in caplog.text) == guessed


@pytest.mark.parametrize(
    ("family", "task", "architecture"),
    [
        ("bert", "features", "BertModel"),
        ("gpt2", "classification", "GPT2ForSequenceClassification"),
        ("gpt2", "lm", "GPT2DoubleHeadsModel"),
    ],
)
def test_what_writes_no_text_is_no_language_model(family, task, architecture, tmp_path):
    latadj_jax.save_pretrained(tmp_path, *tiny.make(family, task, num_hidden_layers=1))
    edit(tmp_path, architectures=[architecture])
    with pytest.raises(ValueError, match="needed is a language model"):
        language_model_task(tmp_path)


def test_a_classification_may_leave_its_number_of_labels_null(tmp_path):
    tiny.save(tmp_path, "classification", id2label=None, label2id=None)
    edited = json.loads((tmp_path / "config.json").read_text()) | {"num_labels": None}
    (tmp_path / "config.json").write_text(json.dumps(edited))
    with pytest.raises(ValueError, match=r"classifier\.weight \[3, 32\] instead of \[2, 32\]"):
        from_pretrained(tmp_path)  # two labels, as in transformers
    assert len(from_pretrained(tmp_path, num_labels=3)[0].config.labels) == 3


@pytest.mark.parametrize(
    ("generation", "config", "tokenizer", "expected"),
    [(5, 6, 0, (5,)), (None, 6, 0, (6,)), (None, None, 0, (0,)), ([5, 6], 7, 0, (5, 6))],
)
def test_what_ends_a_text_is_said_by_three_files_in_this_order(
    generation, config, tokenizer, expected, tmp_path
):
    """generation_config.json, then config.json, then the tokenizer (whose <|endoftext|> is 0)."""
    model, params = tiny.make("gpt2", "lm", vocab_size=310, num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path, model, params, tiny_text.byte_level())
    edit(tmp_path, eos_token_id=config)
    if generation is not None:
        file = tmp_path / "generation_config.json"
        file.write_text(json.dumps({"eos_token_id": generation}))
    assert from_pretrained(tmp_path)[0].config.eos_tokens == expected


HEADS = ("classification", "multi-label", "ranking", "regression")


@pytest.mark.parametrize("num_labels", [None, 3])
@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("was", HEADS)
def test_a_saved_model_is_for_what_it_was_for(was, task, num_labels, tmp_path):
    """Whatever the files said that it was read from: their marks are not those of the new task."""
    model, params = tiny.make("bert", was, num_hidden_layers=1)
    latadj_jax.save_pretrained(tmp_path / "was", model, params)
    if task == "regression":
        num_labels = None
    elif task == "classification":  # which one label is too few for
        num_labels = 3
    model, params = from_pretrained(tmp_path / "was", task, num_labels)
    latadj_jax.save_pretrained(tmp_path / "is", model, params)
    again, _ = from_pretrained(tmp_path / "is")
    assert (again.task, again.config.labels) == (task, model.config.labels)
    (tmp_path / "is" / "elimination.json").unlink()  # config.json says it too, but for one case
    from_config, _ = from_pretrained(tmp_path / "is")
    several_scores = task == "ranking" and len(model.config.labels) > 1
    assert from_config.task == ("classification" if several_scores else task)


def test_what_config_json_says_now_is_stronger_than_what_was_saved(tmp_path):
    latadj_jax.save_pretrained(tmp_path, *tiny.make("bert", "classification", num_hidden_layers=1))
    edit(tmp_path, problem_type="multi_label_classification")
    assert from_pretrained(tmp_path)[0].task == "multi-label"
