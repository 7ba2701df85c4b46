"""Calls of `generate` and `stream` that cannot work: one sentence each, before any compilation."""

import inspect

import numpy as np
import pytest
import tiny

import latadj_jax

VOCAB = tiny.VOCAB


def prompt_of(length, **changes):
    return {"input_ids": np.ones((2, length), np.int32), **changes}


BAD = {
    "prompt too long": (prompt_of(97), {}, "97 tokens long.*96 positions"),
    "all too long": (prompt_of(91), {}, "91 tokens and 6 new tokens.*96 positions"),
    "empty prompt": (prompt_of(0), {}, r"input_ids must be \[B, T\].*\[2, 0\]"),
    "empty batch": ({"input_ids": np.ones((0, 4), np.int32)}, {}, r"input_ids.*\[0, 4\]"),
    "empty row": (
        prompt_of(3, attention_mask=np.array([[1, 1, 0], [0, 0, 0]])), {}, "no valid token in row 1"
    ),
    "no ids": ({}, {}, "no 'input_ids'"),
    "id outside": ({"input_ids": np.full((1, 3), VOCAB)}, {}, "100..100.*0..99"),
    **{
        f"max_new_tokens {n!r}": (prompt_of(4), {"max_new_tokens": n}, "max_new_tokens must be")
        for n in (0, -1, True, 1.5, None)
    },
    "stop token outside": (prompt_of(4), {"stop_tokens": [1, 100]}, "stop_tokens holds 100.*0..99"),
    "stop token below": (prompt_of(4), {"stop_tokens": [-1]}, "stop_tokens holds -1"),
    "stop token no id": (prompt_of(4), {"stop_tokens": ["a"]}, "stop_tokens holds 'a'"),
    "stop tokens no list": (prompt_of(4), {"stop_tokens": 5}, "stop_tokens"),
    "ragged": ({"input_ids": [[1, 2], [1]]}, {}, "rows of different lengths.*padding=True"),
    "no keys": (prompt_of(4), {"temperature": 1.0, "key": 3}, "key must be a key"),
    "pad token outside": (prompt_of(4), {"pad_token": 100}, "pad_token holds 100.*0..99"),
    "temperature": (prompt_of(4), {"temperature": -1.0}, "temperature must be 0"),
    "top_p": (prompt_of(4), {"temperature": 1.0, "top_p": 0.0}, "top_p must be greater than 0"),
    "top_k": (prompt_of(4), {"temperature": 1.0, "top_k": -2}, "top_k must be an integer"),
    "greedy top_k": (prompt_of(4), {"top_k": 5}, "top_k and top_p change nothing at temperature 0"),
    "no key": (prompt_of(4), {"temperature": 1.0}, "sampling needs a key"),
    "alpha": (prompt_of(4), {"alpha": 0.0}, "alpha must be finite and greater than 0"),
}  # fmt: skip


@pytest.mark.parametrize("function", [latadj_jax.generate, latadj_jax.stream])
@pytest.mark.parametrize(("batch", "options", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_generated_is_refused(function, batch, options, message, count_compilations):
    """At the call, also of a stream, whose tokens nobody has asked for yet."""
    model = tiny.make_model("gpt2", "lm", max_position_embeddings=96)
    with pytest.raises(ValueError, match=message):
        function(model, {}, batch, **{"max_new_tokens": 7, **options})
    assert count_compilations() == 0


def test_a_stream_has_no_beams():
    model = tiny.make_model("gpt2", "lm")
    with pytest.raises(ValueError, match="a beam search cannot be streamed"):
        latadj_jax.stream(model, {}, prompt_of(4), num_beams=2)
    with pytest.raises(TypeError, match=r"stream\(\) has no argument 'length_penalty'"):
        latadj_jax.stream(model, {}, prompt_of(4), length_penalty=2.0)


@pytest.mark.parametrize("function", [latadj_jax.generate, latadj_jax.stream])
def test_an_unknown_keyword_is_named_and_the_known_ones_are_shown(function):
    model = tiny.make_model("gpt2", "lm")
    name = function.__name__
    with pytest.raises(TypeError, match=rf"{name}\(\) has no argument 'topk'; it has .*top_k"):
        function(model, {}, prompt_of(4), topk=5)
    shown = inspect.signature(function).parameters
    assert [*shown][:5] == ["model", "params", "batch", "alpha", "max_new_tokens"]
    assert shown["temperature"].default == 0.0
    assert ("num_beams" in shown) == (function is latadj_jax.generate)


@pytest.mark.parametrize(("family", "task"), [("bert", "features"), ("llama", "classification")])
def test_generation_needs_a_language_model(family, task):
    with pytest.raises(ValueError, match=f"task 'lm', and this one's is '{task}'.*task='lm'"):
        latadj_jax.generate(tiny.make_model(family, task), {}, prompt_of(4))


def test_parameters_of_another_model_are_refused():
    model = tiny.make_model("gpt2", "lm", num_hidden_layers=2, max_position_embeddings=96)
    params = tiny.make("gpt2", "lm", num_hidden_layers=1, max_position_embeddings=96)[1]
    with pytest.raises(ValueError, match="params are not this model's: layer_1"):
        latadj_jax.generate(model, params, prompt_of(4), 0.8, 3)
