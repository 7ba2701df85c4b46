"""What --model_args say of a checkpoint: its task, and what stands in front of a context."""

import json
import logging

import pytest
import tiny_text

from latadj_jax.training.jobs import seq2seq

pytest.importorskip("lm_eval")
from test_requests import AFTER, CONTEXT, dense, framing, save


@pytest.mark.parametrize("named", [["GPT2Model"], [], None])
def test_a_checkpoint_that_names_no_head_is_a_language_model(tmp_path, ask, caplog, named):
    save(tmp_path, framing("nothing"))
    (wanted,) = ask(dense(tmp_path), "loglikelihood", (CONTEXT, AFTER))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": named}))
    with caplog.at_level(logging.INFO, "latadj_jax"):
        assert ask(dense(tmp_path), "loglikelihood", (CONTEXT, AFTER)) == [wanted]
    assert "'lm'" in caplog.text
    caplog.clear()
    assert ask(dense(tmp_path, task="lm"), "loglikelihood", (CONTEXT, AFTER)) == [wanted]
    assert not caplog.text


@pytest.mark.parametrize("names", [[], ["T5Model"]])
def test_a_t5_that_names_no_head_writes_targets(names, tmp_path):
    save(tmp_path, seq2seq.train_tokenizer([tiny_text.story(0)], 310), "t5")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": names}))
    assert dense(tmp_path).backend == dense(tmp_path, task="seq2seq").backend == "seq2seq"


@pytest.mark.parametrize(
    ("given", "front"), [("True", (0,)), ("true", (0,)), ("False", ()), ("None", (0,))]
)
def test_add_bos_token_may_be_a_text(tmp_path, given, front):
    save(tmp_path, framing("front"))
    assert dense(tmp_path, add_bos_token=given).encoder.front == front


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_bos_token": "maybe"}, "add_bos_token is True or False; it is 'maybe'"),
        ({"task": "features"}, "task is lm or seq2seq; it is 'features'"),
        ({"task": "seq2seq"}, "task 'seq2seq' is not one of gpt2's"),
    ],
)
def test_other_values_are_refused(tmp_path, options, message):
    save(tmp_path, framing("nothing"))
    with pytest.raises(ValueError, match=message):
        dense(tmp_path, **options)
