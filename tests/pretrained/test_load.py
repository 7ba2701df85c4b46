import inspect
import json

import jax
import numpy as np
import pytest
import tiny
import tiny_text
from tolerance import SAME

import latadj_jax
from latadj_jax import Model, Profile, from_pretrained, init_params, make_plan
from latadj_jax.model.model import param_shapes
from latadj_jax.pretrained.load import language_model_task

# Public names


def test_public_names_and_arguments_stay():
    """Others call these; section 5 of the design fixes them."""
    names = "from_pretrained apply calibrate save_pretrained make_plan expected_speedup macs"
    assert {*names.split(), "solve_alpha", "Profile", "Plan"} <= set(latadj_jax.__all__)
    assert all(hasattr(latadj_jax, name) for name in latadj_jax.__all__)
    arguments = inspect.signature(latadj_jax.apply).parameters
    keywords = {k: p.default for k, p in arguments.items() if p.kind is p.KEYWORD_ONLY}
    assert list(arguments)[:4] == ["model", "params", "batch", "alpha"]
    assert arguments["alpha"].default is None
    assert keywords == {
        "plan": None, "count": "valid", "restore": False, "train": False, "rngs": None,
        "return_scores": False,
    }  # fmt: skip
    assert list(inspect.signature(from_pretrained).parameters)[:4] == [
        "source", "task", "num_labels", "dtype",
    ]  # fmt: skip


# The model


def test_models_of_equal_value_are_one_key():
    """Else every load or replace would compile anew."""
    first, second = tiny.make_model(), tiny.make_model()
    assert {first: 1}[second] == 1
    assert first.replace(alpha=0.9) != first
    assert first.replace(profile=Profile.constant(3)) != first


def test_a_model_without_profile_keeps_everything_at_alpha_one():
    model = Model(tiny.make_model().config)
    assert model.profile == Profile.constant(3)
    assert model.alpha is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "translation"},
            "task 'translation'.*features, embedding, classification, regression",
        ),
        ({"profile": Profile.constant(2)}, "profile has 2 layers, the model 3"),
        ({"dtype": "float16"}, "dtype.*float32, bfloat16.*float16"),
        ({"alpha": 0}, "alpha.*greater than 0"),
        ({"alpha": float("nan")}, "alpha.*finite"),
    ],
)
def test_impossible_models_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny.make_model().replace(**changes)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_parameters_are_float32_under_x64_too(family):
    with jax.enable_x64(True):
        shapes = param_shapes(tiny.make_model(family))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}


def test_random_parameters_follow_their_seed():
    model = tiny.make_model(num_hidden_layers=1)
    first, again, other = (init_params(model, seed=seed) for seed in (0, 0, 1))
    assert tiny.same_params(first, again)
    assert not tiny.same_params(first, other)


# apply

ids = np.ones((2, 8), np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "alpha.*greater than 0"),
        ({"alpha": float("inf")}, "alpha.*finite"),
        ({"alpha": jax.numpy.float32(0.5)}, "alpha must be a Python number"),
        ({"count": "all"}, "count.*valid, padded"),
        ({"alpha": 0.5, "plan": make_plan(Profile.constant(3), 0.5, 8)}, "alpha and plan"),
        ({"count": "padded", "plan": make_plan(Profile.constant(3), 0.5, 8)}, "the plan's is 'val"),
        ({"plan": make_plan(Profile.constant(3), 0.5, 9)}, "9 tokens.*batch 8 tokens"),
        ({"plan": make_plan(Profile.constant(2), 0.5, 8)}, "2 layers.*has 3 layers"),
        ({"train": True}, "needs a key.*dropout"),
        ({"plan": make_plan(Profile.constant(3), 0.5, 8, strategy="random")}, "key.*eliminate"),
        ({"batch": {}}, "input_ids"),
        ({"batch": {"input_ids": ids, "mask": ids}}, "unknown key 'mask'"),
        ({"batch": {"input_ids": ids[:0]}}, "at least 1"),
        ({"batch": {"input_ids": ids[0]}}, r"\[B, T\]"),
        ({"batch": {"input_ids": [[1, 2], [1]]}}, "input_ids has rows of different.*padding=True"),
        ({"rngs": jax.random.key(0)}, "rngs must be a dict of keys"),
        ({"rngs": {"dropout": np.ones(3, np.uint32)}}, r"rngs\['dropout'\] must be a key"),
        ({"rngs": {"dropout": jax.random.split(jax.random.key(0))}}, r"dropout'\] must be a key"),
        ({"train": True, "rngs": {"dropout": 0}}, r"rngs\['dropout'\] must be a key.*it is 0"),
        ({"batch": {"input_ids": ids * 100}}, "input_ids holds 100"),
        ({"batch": {"input_ids": np.ones((1, 41), np.int32)}}, "41 tokens.*40 positions"),
        ({"batch": {"input_ids": ids, "attention_mask": ids[:, :5]}}, r"attention_mask.*\[2, 8\]"),
        ({"batch": {"input_ids": ids, "attention_mask": ids * 0}}, "no valid token in row 0"),
    ],
)
def test_bad_input_is_refused_before_any_compilation(changes, message, count_compilations):
    model, params = tiny.make()
    batch = changes.pop("batch", {"input_ids": ids})
    before = count_compilations()
    with pytest.raises(ValueError, match=message):
        latadj_jax.apply(model, params, batch, **changes)
    assert count_compilations() == before


def test_apply_does_not_read_the_default_alpha():
    """It is for whoever serves the model; `alpha=None` means dense."""
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    out = latadj_jax.apply(model.replace(alpha=0.5), params, batch)
    assert out.hidden.shape[1] == 16


# from_pretrained: what task, how many labels

MULTI_LABEL = {"problem_type": "multi_label_classification"}


@pytest.mark.parametrize(
    ("saved", "changes", "asked", "task", "labels"),
    [
        ("features", {}, {}, "features", 2),
        ("features", {"architectures": None}, {}, "features", 2),
        ("features", {"architectures": ["BertForMaskedLM"]}, {"task": "features"}, "features", 2),
        ("features", {}, {"task": "classification"}, "classification", 2),
        ("features", {}, {"task": "classification", "num_labels": 4}, "classification", 4),
        ("features", {}, {"task": "regression"}, "regression", 1),
        ("classification", {}, {}, "classification", 3),
        ("classification", {"problem_type": None}, {}, "classification", 3),
        ("classification", {}, {"num_labels": 5}, "classification", 5),
        ("classification", {}, {"task": "regression"}, "regression", 1),
        ("classification", {}, {"task": "features"}, "features", 3),
        ("classification", MULTI_LABEL, {"task": "features"}, "features", 3),
        ("classification", MULTI_LABEL, {"task": "classification"}, "classification", 3),
        ("regression", {}, {}, "regression", 1),
        ("regression", {"problem_type": None}, {}, "regression", 1),
        ("regression", {}, {"task": "regression"}, "regression", 1),
        ("regression", {}, {"task": "classification", "num_labels": 2}, "classification", 2),
    ],
)
def test_task_and_labels_come_from_the_config_unless_asked_for(
    tmp_path, saved, changes, asked, task, labels
):
    model, params = from_pretrained(tiny.save(tmp_path / "m", saved, **changes), **asked)
    assert model.task == task
    assert len(model.config.labels) == labels
    assert ("classifier" in params) == (task != "features")
    if task != "features":
        assert params["classifier"]["kernel"].shape == (32, labels)


@pytest.mark.parametrize(
    ("saved", "asked", "kept"),
    [
        ("classification", {}, True),
        ("classification", {"num_labels": 3}, True),
        ("classification", {"num_labels": 4}, False),
        ("classification", {"task": "regression"}, False),
        ("regression", {"task": "regression"}, True),
    ],
)
def test_the_head_is_kept_where_it_fits(tmp_path, saved, asked, kept):
    """Fails where fine-tuning goes on from a random head, or a head of another task stays."""
    params = from_pretrained(tiny.save(tmp_path / "m", saved), **asked)[1]
    kernel = tiny.make("bert", saved)[1]["classifier"]["kernel"]
    assert np.array_equal(params["classifier"]["kernel"], kernel) == kept


def test_label_names_survive_until_another_number_is_asked_for(tmp_path):
    folder = tiny.save(tmp_path / "m", "classification")
    assert from_pretrained(folder)[0].config.labels == ("name-0", "name-1", "name-2")
    assert from_pretrained(folder, num_labels=2)[0].config.labels == ("LABEL_0", "LABEL_1")


def test_a_folder_without_elimination_json_is_uncalibrated(tmp_path):
    folder = tiny.save(tmp_path / "m", "features")
    (folder / "elimination.json").unlink()
    model, _ = from_pretrained(folder)
    assert model.profile == Profile.constant(3)
    assert model.alpha is None


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", None, r"config\.json is not there"),
        ("config.json", '{"model_type": "be', r"config\.json cannot be read"),
        ("config.json", "[]", r"config\.json must hold a JSON object"),
        ("config.json", '{"model_type": "gpt5"}', "model_type 'gpt5'"),
        ("config.json", '{"model_type": "bert"}', "vocab_size"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", "half a file", r"model\.safetensors cannot be read"),
        ("elimination.json", "{", r"elimination\.json cannot be read"),
        ("elimination.json", "{}", r"elimination\.json cannot be used: it has no 'format'"),
        (
            "elimination.json",
            '{"format": 1, "alpha": 1' + "0" * 400 + ', "profile": {"rates": [1, 1, 1]}}',
            r"elimination\.json.*alpha must be finite",
        ),
        ("config.json", '{"model_type": [1]}', r"model_type \[1\] is not implemented"),
        ("config.json", "[" * 100_000, r"config\.json cannot be read"),
        ("elimination.json", '{"format": 2}', r"elimination\.json.*format is 2"),
        ("elimination.json", '{"format": 1, "alpha": 0.5}', r"elimination\.json.*profile"),
        (
            "elimination.json",
            '{"format": 1, "alpha": 0.5, "profile": {"rates": [0.5, 0.5, 1.5]}}',
            r"elimination\.json.*rates",
        ),
        (
            "elimination.json",
            '{"format": 1, "alpha": -1, "profile": {"rates": [1, 1, 1]}}',
            "alpha",
        ),
        ("elimination.json", '{"format": 1, "alpha": 1, "profile": {"rates": [1]}}', "1 layers"),
    ],
)
def test_broken_artefacts_are_refused_by_file(tmp_path, file, text, message):
    folder = tiny.save(tmp_path / "m", "features")
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "lm"}, "task 'lm'"),
        ({"num_labels": 0}, "num_labels.*at least 1"),
        ({"dtype": "int8"}, "dtype.*int8"),
        ({"task": "features", "num_labels": 3}, "num_labels is for classification"),
        ({"num_labels": "3"}, "num_labels must be.*it is '3'"),
        ({"num_labels": True}, "num_labels must be.*it is True"),
        ({"task": ["lm"]}, r"task must be a name.*\['lm'\]"),
        ({"seed": -1}, "seed must be an integer of at least 0; it is -1"),
    ],
)
def test_what_no_model_can_be_is_refused(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        from_pretrained(tiny.save(tmp_path / "m", "classification"), **asked)


def test_what_is_no_source_and_no_model_is_said():
    model, params = tiny.make()
    batch = {"input_ids": ids}
    with pytest.raises(ValueError, match="source must be a path or a hub id; it is None"):
        from_pretrained(None)
    for call in (
        lambda: latadj_jax.apply("folder", params, batch),
        lambda: latadj_jax.apply(None, params, batch),
        lambda: latadj_jax.calibrate(params, model, [batch]),
        lambda: latadj_jax.save_pretrained("m", params, model),
        lambda: latadj_jax.generate(params, model, batch),
    ):
        with pytest.raises(ValueError, match="model must be a Model, the first that"):
            call()
    with pytest.raises(ValueError, match="batches must be a list of batches; it is None"):
        latadj_jax.calibrate(model, params, None)


def test_several_labels_at_once_are_refused_where_no_task_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"multi_label_classification.*name another task"):
        from_pretrained(tiny.save(tmp_path / "m", "classification", **MULTI_LABEL))


def test_special_tokens_come_from_generation_config_first_as_in_hugging_face(tmp_path):
    """Chat models name their end of turn there alone; what is saved has it in config.json."""
    folder = tiny.save(tmp_path / "m", "features")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "eos_token_id": 2, "pad_token_id": 3})
    )
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 17], "top_k": 5}')
    model, params = from_pretrained(folder)
    assert (model.config.eos_tokens, model.config.pad_tokens) == ((2, 17), (3,))
    latadj_jax.save_pretrained(tmp_path / "again", model, params)
    saved = json.loads((tmp_path / "again/config.json").read_text())
    assert (saved["eos_token_id"], saved["pad_token_id"]) == ([2, 17], 3)
    assert from_pretrained(tmp_path / "again")[0] == model
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json cannot be read"):
        from_pretrained(folder)


def test_a_file_of_a_model_is_no_model(tmp_path):
    file = tiny.save(tmp_path / "m", "features") / "model.safetensors"
    with pytest.raises(
        ValueError, match=r"config\.json is not there; is .*safetensors a model fol"
    ):
        from_pretrained(file)


@pytest.mark.parametrize(
    "wrap", [lambda p: None, lambda p: {}, lambda p: [p], lambda p: {"params": p}]
)
def test_what_are_no_parameters_is_one_sentence(wrap):
    model, params = tiny.make()
    with pytest.raises(ValueError, match="params are not this model's"):
        latadj_jax.apply(model, wrap(params), {"input_ids": ids})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_program_of_any_number_of_rows(family):
    """`apply` under jax.export with a symbolic batch size, with and without a mask."""
    model, params = tiny.make(family, num_hidden_layers=1)
    (rows,) = jax.export.symbolic_shape("B")
    shape = jax.ShapeDtypeStruct((rows, 8), np.int32)
    run = jax.jit(lambda p, batch: latadj_jax.apply(model, p, batch, 0.6).hidden)
    for keys in (("input_ids",), ("input_ids", "attention_mask")):
        exported = jax.export.export(run)(params, dict.fromkeys(keys, shape))
        assert str(exported.out_avals[0].shape[0]) == "B"
    batch = {"input_ids": ids, "attention_mask": ids}
    np.testing.assert_allclose(exported.call(params, batch), run(params, batch), **SAME)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        from_pretrained(tmp_path / "nowhere")


def test_what_a_tokenizer_makes_for_torch_is_read_too():
    torch = pytest.importorskip("torch")
    model, params = tiny.make("bert", "classification")
    batch, _ = tiny.mixed_batch()
    of_torch = {key: torch.from_numpy(np.asarray(value)) for key, value in batch.items()}
    out, expected = (latadj_jax.apply(model, params, b, 0.8) for b in (of_torch, batch))
    np.testing.assert_array_equal(out.logits, expected.logits)


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("bert", "BertForTokenClassification"),
        ("bert", "BertForQuestionAnswering"),
        ("bert", "BertForPreTraining"),
        ("roberta", "RobertaForMultipleChoice"),
        ("gpt2", "GPT2DoubleHeadsModel"),
        ("llama", "LlamaForTokenClassification"),
        ("t5", "T5ForSequenceClassification"),
    ],
)
def test_a_head_that_is_not_implemented_is_refused_by_name(family, architecture, tmp_path):
    """Read as features, its head would be thrown away in silence; asked for by name it is."""
    latadj_jax.save_pretrained(tmp_path, *tiny.make(family, num_hidden_layers=1))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": [architecture]}))
    with pytest.raises(ValueError, match=rf"head of {architecture} is not .*task='features'\.$"):
        latadj_jax.from_pretrained(tmp_path)
    model, _ = latadj_jax.from_pretrained(tmp_path, task="features")
    assert model.task == "features"


# What a checkpoint is for


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
