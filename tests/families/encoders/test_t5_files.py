"""T5 checkpoints as they are found: embeddings under other names, keys that contradict each other.

Each is read as transformers reads it.
"""

import json

import numpy as np
import pytest
import tiny
from test_parity_t5 import assert_same

import latadj_jax
from latadj_jax.families.registry import config_from_hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import save_file  # noqa: E402


def save(folder, tensors=None, left_out=(), architecture="T5ForConditionalGeneration", **changes):
    """A T5 with random weights, some of whose tensors are replaced, added or left out."""
    hf = tiny.hf_config("t5", "seq2seq") | {"architectures": [architecture], **changes}
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**hf))
    rng = np.random.default_rng(2)
    state = {}
    for name, tensor in theirs.state_dict().items():
        leaf = "scale" if "layer_norm" in name else "kernel"
        drawn = tiny.draw(leaf, tuple(tensor.shape), rng)
        state[name] = torch.from_numpy(drawn / tiny.T5_QUERIES if ".q." in name else drawn)
    tied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    state = {name: tensor for name, tensor in state.items() if name not in {*tied, *left_out}}
    save_file(state | (tensors or {}), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hf))
    return folder


def assert_same_both_ways(folder):
    """Read by both, and by transformers once more after it was saved here."""
    model, params = latadj_jax.from_pretrained(folder)
    latadj_jax.save_pretrained(folder / "again", model, params)
    for read in (folder, folder / "again"):
        theirs = transformers.T5ForConditionalGeneration.from_pretrained(read).eval()
        assert_same(theirs, model, params)


def table(seed):
    return torch.from_numpy(tiny.draw("embedding", (tiny.VOCAB, 32), np.random.default_rng(seed)))


ENCODER, DECODER, HEAD = (
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "lm_head.weight",
)
# Which tables a file holds beside "shared.weight"; without one that is left out.
EMBEDDINGS = {
    "MADLAD-400: three, none of them shared": ((ENCODER, DECODER, HEAD), False),
    "the decoder's and a head": ((DECODER, HEAD), False),
    "the head alone": ((HEAD,), False),
    "the decoder's alone": ((DECODER,), False),
    "two that differ": ((ENCODER, DECODER), False),
    "shared, and an encoder's of its own": ((ENCODER,), True),
    "shared, and a decoder's and a head of their own": ((DECODER, HEAD), True),
}


@pytest.mark.parametrize("tie", [True, False, None])
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_embeddings_are_found_where_transformers_finds_them(kind, tie, tmp_path):
    names, shared = EMBEDDINGS[kind]
    tensors = {name: table(seed) for seed, name in enumerate(names)}
    left_out = () if shared else ("shared.weight",)
    save(tmp_path, tensors, left_out, tie_word_embeddings=tie)
    assert_same_both_ways(tmp_path)


def test_the_decoders_own_embedding_is_what_generation_reads(tmp_path):
    save(tmp_path, {ENCODER: table(0), DECODER: table(1), HEAD: table(2)}, ("shared.weight",))
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    ids = np.random.default_rng(0).integers(2, tiny.VOCAB, (2, 9))
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(torch.from_numpy(ids), max_new_tokens=12, do_sample=False)
    model, params = latadj_jax.from_pretrained(tmp_path)
    tokens = latadj_jax.generate(model, params, {"input_ids": ids}, None, 12, stop_tokens=())
    np.testing.assert_array_equal(tokens, expected[:, 1:].numpy())


def test_an_encoder_is_read_without_shared_weight_too(tmp_path):
    save(tmp_path, {ENCODER: table(0)}, ("shared.weight",), "T5EncoderModel")
    theirs = transformers.T5EncoderModel.from_pretrained(tmp_path).eval()
    model, params = latadj_jax.from_pretrained(tmp_path)
    assert model.task == "features"
    ids = np.random.default_rng(0).integers(2, tiny.VOCAB, (2, 9))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).last_hidden_state.numpy()
    out = latadj_jax.apply(model, params, {"input_ids": ids})
    np.testing.assert_allclose(out.hidden, expected, atol=1e-4)


CONFIGS = {
    "BLIP-2's Flan-T5": {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
    "an activation alone": {"dense_act_fn": "silu"},
    "scaled though v1.1": {"tie_word_embeddings": False, "scale_decoder_outputs": True},
    "ProstT5": {"tie_word_embeddings": None},
    "null that is false": {"scale_decoder_outputs": None},
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_keys_of_the_config_win_over_what_follows_from_others(changes, tmp_path):
    """1.5e-2 of 5.3 is what the other gelu makes of Flan-T5's logits."""
    save(tmp_path, **changes)
    assert_same_both_ways(tmp_path)


def test_what_is_gated_is_said_by_is_gated_act():
    config = config_from_hf(
        tiny.hf_config("t5", "seq2seq", feed_forward_proj="gated-gelu", is_gated_act=False)
    )
    assert (config.gated, config.activation, config.ff_matrices) == (False, "gelu_new", 2)
