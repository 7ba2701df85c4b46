"""Promise 1 for T5 with targets: logits and generated tokens are those of Hugging Face."""

import json

import numpy as np
import pytest
import tiny

import latadj_jax

# What tells v1.0 from v1.1 (Flan-T5 is one) and from what transformers 4 saved: which key says that
# the head is tied, and whether there is one.
KINDS = {
    "v1.0": {"feed_forward_proj": "relu"},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated relu, unlike depths": {"feed_forward_proj": "gated-relu", "num_decoder_layers": 1},
    "mT5": {"model_type": "mt5", "tie_word_embeddings": False},
    "mT5, head tied": {"model_type": "mt5"},
    "umT5": {"model_type": "umt5", "tie_word_embeddings": False},
    "umT5, scaled, unlike depths": {"model_type": "umt5", "num_decoder_layers": 1},
    "gelu": {"feed_forward_proj": "gelu", "layer_norm_epsilon": 0.1, "num_decoder_layers": None},
}
UNTIED = ("v1.1", "mT5", "umT5")  # with a head of their own
each_kind = pytest.mark.parametrize("kind", KINDS)


def torch_model(kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = tiny.hf_config("t5", "seq2seq", **KINDS[kind])
    config = transformers.AutoConfig.for_model(**values)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    if kind in UNTIED:  # transformers 5 ties every head at first
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    rng = np.random.default_rng(2)
    for name, parameter in model.named_parameters():
        leaf = "scale" if "layer_norm" in name else "kernel"
        drawn = tiny.draw(leaf, tuple(parameter.shape), rng)
        if name.endswith("q.weight"):
            drawn /= tiny.T5_QUERIES
        parameter.data = torch.from_numpy(drawn)
    return model


def inputs_of():
    """Sources of three lengths, padded on the left, and targets."""
    batch, _ = tiny.padded([tiny.example(n, n, "t5") for n in (20, 7, 13)], "left", 20)
    ids = np.random.default_rng(4).integers(1, tiny.VOCAB, (3, 9)).astype(np.int32)
    ids[:, 0] = 0
    return batch, ids


def as_torch(batch):
    import torch

    return {key: torch.from_numpy(np.asarray(value, np.int64)) for key, value in batch.items()}


def assert_same(theirs, model, params):
    import torch

    batch, ids = inputs_of()
    with torch.no_grad():
        expected = theirs(**as_torch({**batch, "decoder_input_ids": ids}))
    out = latadj_jax.apply(model, params, {**batch, "decoder_input_ids": ids})
    valid = batch["attention_mask"] > 0
    encoded = expected.encoder_last_hidden_state.numpy()
    np.testing.assert_allclose(out.hidden[valid], encoded[valid], rtol=0, atol=1e-4)
    np.testing.assert_allclose(out.logits, expected.logits.numpy(), rtol=0, atol=1e-4)
    logits = latadj_jax.continuation_logits(model, params, batch, ids[:, 1:])
    np.testing.assert_allclose(logits, expected.logits.numpy(), rtol=0, atol=1e-4)


@each_kind
def test_logits_equal_hugging_face_and_back(kind, tmp_path):
    theirs = torch_model(kind)
    theirs.save_pretrained(tmp_path / "theirs")
    model, params = latadj_jax.from_pretrained(tmp_path / "theirs")
    assert model.task == "seq2seq"
    assert model.family.name == KINDS[kind].get("model_type", "t5")
    assert model.config.tied == (kind not in UNTIED)
    assert_same(theirs, model, params)

    latadj_jax.save_pretrained(tmp_path / "ours", model, params)
    back, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_same(back.eval(), model, params)


@pytest.mark.parametrize("kind", ["v1.0", "v1.1", "umT5"])
def test_greedy_tokens_equal_those_of_transformers(kind, tmp_path):
    theirs = torch_model(kind)
    theirs.save_pretrained(tmp_path)
    theirs.generation_config.eos_token_id = None
    model, params = latadj_jax.from_pretrained(tmp_path)
    batch, _ = inputs_of()
    expected = theirs.generate(**as_torch(batch), max_new_tokens=50, do_sample=False)
    tokens = latadj_jax.generate(model, params, batch, None, 50, stop_tokens=())
    np.testing.assert_array_equal(tokens, expected[:, 1:].numpy())
    assert len(set(np.ravel(tokens).tolist())) > 5  # not one token over and over


BEAMS = {
    "three": {"num_beams": 3},
    "sum of log-probabilities": {"num_beams": 4, "length_penalty": 0.0},
    "never early, long ones": {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    "early": {"num_beams": 2, "early_stopping": True},
}


@pytest.mark.parametrize("options", BEAMS.values(), ids=BEAMS)
@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_beam_search_finds_what_transformers_finds(family, options, tmp_path):
    """Six prompts; many stop tokens, so that sequences end at unlike lengths."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = "seq2seq" if family == "t5" else "lm"
    model, params = tiny.make(family, task, num_hidden_layers=2)
    latadj_jax.save_pretrained(tmp_path, model, params)
    auto = {"seq2seq": transformers.AutoModelForSeq2SeqLM, "lm": transformers.AutoModelForCausalLM}
    theirs = auto[task].from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(2, tiny.VOCAB, (6, 12)).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    stops = list(range(40, 65))
    expected = theirs.generate(
        **as_torch(batch), max_new_tokens=14, do_sample=False, eos_token_id=stops, pad_token_id=0,
        **options,
    ).numpy()[:, 1 if family == "t5" else 12 :]  # fmt: skip
    tokens = latadj_jax.generate(
        model, params, batch, None, 14, stop_tokens=stops, pad_token=0, **options
    )
    tokens = np.asarray(tokens)
    ended = np.cumsum(np.isin(expected, stops), axis=1) - np.isin(expected, stops) > 0
    expected = np.where(ended, 0, expected)  # it pads with the first stop token where pad is 0
    np.testing.assert_array_equal(tokens[:, : expected.shape[1]], expected)
    assert (tokens[:, expected.shape[1] :] == 0).all()
    if options == BEAMS["three"]:
        lengths = (tokens > 0).sum(axis=1)
        assert lengths.min() < lengths.max()


@pytest.mark.parametrize("kind", ["v1.0", "umT5"])
def test_an_encoder_embeds_as_sentence_t5_and_gtr_do(kind, tmp_path):
    """Their folders, scaled down: mean pooling, Dense without a bias, Normalize."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    whole = torch_model(kind)
    names = {"v1.0": "T5EncoderModel", "umT5": "UMT5EncoderModel"}
    theirs = getattr(transformers, names[kind])(whole.config).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    theirs.save_pretrained(tmp_path)
    kinds = {
        "Transformer": "",
        "Pooling": "1_Pooling",
        "Dense": "2_Dense",
        "Normalize": "3_Normalize",
    }
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
        for n, (name, path) in enumerate(kinds.items())
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    dense = {
        "in_features": 32, "out_features": 24, "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }  # fmt: skip
    kernel = torch.from_numpy(np.random.default_rng(5).normal(size=(24, 32)).astype(np.float32))
    for folder, config in (("1_Pooling", pooling), ("2_Dense", dense)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    torch.save({"linear.weight": kernel}, tmp_path / "2_Dense/pytorch_model.bin")

    model, params = latadj_jax.from_pretrained(tmp_path)
    batch, _ = inputs_of()
    with torch.no_grad():
        hidden = theirs(**as_torch(batch)).last_hidden_state
    mask = torch.from_numpy(batch["attention_mask"])[:, :, None]
    expected = ((hidden * mask).sum(dim=1) / mask.sum(dim=1)) @ kernel.T
    expected = torch.nn.functional.normalize(expected, dim=1)
    out = latadj_jax.apply(model, params, batch)
    np.testing.assert_allclose(out.embedding, expected.numpy(), atol=1e-4)
    pruned = latadj_jax.apply(model, params, batch, 0.8).embedding
    assert 0.1 < np.abs(pruned - out.embedding).max() < 2
