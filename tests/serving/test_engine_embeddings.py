"""Serving of embeddings: a vector for each text, and prompts."""

import numpy as np
import pytest
import tiny
import tiny_run

import latadj_jax
from latadj_jax.families.pooling import Embedding, NormalizeStep

TEXTS = ["good word1 word2", "bad", "word3 " * 15 + "good"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    prompts = (("query", "good "), ("none", ""))
    embedding = Embedding(prompts=prompts, include_prompt=False, steps=(NormalizeStep(),))
    model = tiny.make_model("bert", "embedding", num_hidden_layers=2)
    config = model.config.replace(embedding=embedding)
    model = model.replace(config=config, alpha=0.9, strategy="merge")
    tokenizer = tiny_run.tokenizer(tmp_path_factory.mktemp("tokenizer"))
    with latadj_jax.Engine(
        model, tiny.random_params(model), tokenizer, alphas=(None,), buckets=(24,), batch_sizes=(1,)
    ) as engine:
        yield engine.warmup(repeats=1)


def test_an_engine_embeds(embedder):
    """A vector for each text; a prompt stands before it, and here is not pooled."""
    vectors = embedder(TEXTS, prompt="query", alpha=None)
    assert vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(embedder.submit(TEXTS[0], prompt="query", alpha=None).result(),
                                  vectors[0])  # fmt: skip
    plain, none = (embedder(TEXTS, prompt=prompt, alpha=None) for prompt in (None, "none"))
    np.testing.assert_array_equal(plain, none)
    assert np.abs(plain - vectors).max() > 1e-3
    assert np.abs(embedder(TEXTS) - plain).max() > 1e-3  # at the model's own alpha


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["good", ("good", "bad")], {}, "^text 1 is a pair; an embedding model reads one text"),
        (["good"], {"prompt": "quary"}, "prompt 'quary' is not the model's; it has: query, none"),
        ([""], {"prompt": "query"}, "^text 0 is only the prompt"),
    ],
)
def test_what_cannot_be_embedded_is_one_sentence(embedder, texts, options, message):
    with pytest.raises(ValueError, match=message):
        embedder(texts, **options)
