"""Embeddings against sentence-transformers, and what pooling means under elimination."""

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_run
from tolerance import SAME

import latadj_jax
from latadj_jax.families.pooling import POOLING, DenseStep, Embedding, NormalizeStep

TEXTS = ["good word1 word2", "bad", "word3 word4 word5 good word6 word7 word8", "word9 bad word1"]
STEPS = (DenseStep(32, 24, True, "Tanh"), NormalizeStep())


def make(family="bert", **changes):
    """A tiny model that embeds, and its parameters."""
    config = tiny.make_model(family, num_hidden_layers=2).config
    model = latadj_jax.Model(
        config.replace(embedding=Embedding(**changes)), "embedding",
        latadj_jax.Profile(tiny.PROFILE.rates[:2]),
    )  # fmt: skip
    return model, tiny.random_params(model)


SPECS = {
    **{mode: {"modes": (mode,)} for mode in POOLING},
    "several": {"modes": ("cls", "max", "mean")},
    "in another order": {"modes": ("mean", "cls")},
    "steps": {"steps": STEPS},
    "two Dense": {"steps": (DenseStep(32, 16, False, "Identity"), DenseStep(16, 8, True, "GELU"))},
    "prompts": {"prompts": (("query", "good word9"), ("none", "")), "default_prompt": "query"},
    "prompts left out": {"prompts": (("query", "good word9"),), "include_prompt": False},
    "all modes, prompts left out": {
        "modes": tuple(POOLING), "prompts": (("query", "word9"),), "include_prompt": False,
    },
    "dot, cut": {"similarity": "dot", "max_length": 5},
}  # fmt: skip


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
def test_embeddings_are_those_of_sentence_transformers_and_back(changes, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model, params = make(**changes)
    tokenizer = tiny_run.tokenizer(tmp_path)
    latadj_jax.save_pretrained(tmp_path / "ours", model, params, tokenizer)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    theirs.save(str(tmp_path / "theirs"))
    names = [name for name, _ in model.config.embedding.prompts]
    for folder in ("ours", "theirs"):
        source = tmp_path / folder
        model, params = latadj_jax.from_pretrained(source)
        tokenizer = latadj_jax.load_tokenizer(str(source))
        assert model.task == "embedding"
        found, wanted = model.config.embedding, Embedding(**changes)
        assert {*wanted.prompts} <= {*found.prompts}  # they add empty ones
        assert found.max_length in (wanted.max_length, 40)  # they write the model's own
        same = {"prompts": wanted.prompts, "max_length": wanted.max_length}
        assert dataclasses.replace(found, **same) == wanted
        longest = wanted.max_length or 24
        engine = latadj_jax.Engine(
            model, params, tokenizer, alphas=(None,), buckets=(longest,), batch_sizes=(4,),
            truncate=True,
        ).warmup(repeats=1)  # fmt: skip
        for prompt in (None, *names):
            expected = theirs.encode(TEXTS, prompt_name=prompt)
            np.testing.assert_allclose(engine(TEXTS, prompt=prompt), expected, atol=1e-4)


def numpy_pooling(mode, hidden_LD, masses_L, places_L):
    """Of what remains, with how many pooled tokens each stands for, and the sum of their places."""
    if mode in ("cls", "lasttoken"):
        return hidden_LD[0 if mode == "cls" else -1]
    if mode == "max":
        return hidden_LD[masses_L > 0].max(axis=0)
    masses_L = places_L if mode == "weightedmean" else masses_L
    root = 0.5 if mode == "mean_sqrt_len_tokens" else 1
    return (hidden_LD * masses_L[:, None]).sum(axis=0) / masses_L.sum() ** root


@pytest.mark.parametrize("mode", [mode for mode in POOLING if mode != "lasttoken"])
@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_what_remains_is_pooled_by_how_many_tokens_it_stands_for(mode, strategy):
    model, params = make(modes=(mode,))
    batch, slots = tiny.mixed_batch()
    out = latadj_jax.apply(model.replace(strategy=strategy), params, batch, 0.8)
    features = model.replace(task="features", strategy=strategy)
    plain = latadj_jax.apply(features, tiny.random_params(features), batch, 0.8)
    for row, at in enumerate(slots):
        there = np.asarray(out.positions[row]) >= 0
        assert there.sum() < len(at)
        sizes, positions = np.asarray(out.sizes[row])[there], np.asarray(out.positions[row])[there]
        places = np.searchsorted(at, positions) + 1.0
        if strategy == "merge":
            assert sizes.sum() == len(at)
            masses, places = np.asarray(out.masses[row])[there].T
            np.testing.assert_array_equal(masses, sizes)  # every token is pooled
            assert places.sum() == pytest.approx(len(at) * (len(at) + 1) / 2)
        expected = numpy_pooling(mode, np.asarray(out.hidden[row])[there], sizes, places)
        np.testing.assert_allclose(out.embedding[row], expected, **SAME)
    np.testing.assert_array_equal(out.positions, plain.positions)


@pytest.mark.parametrize("mode", ["mean", "max", "weightedmean"])
def test_a_prompt_that_is_left_out_weighs_nothing_also_where_it_was_merged(mode):
    model, params = make(modes=(mode,), include_prompt=False)
    batch, slots = tiny.mixed_batch()
    asked = np.zeros_like(batch["input_ids"])
    for row, at in enumerate(slots):
        asked[row, at[:4]] = 1
    model = model.replace(strategy="merge")
    out = latadj_jax.apply(model, params, {**batch, "prompt_mask": asked}, 0.8)
    for row, at in enumerate(slots):
        there = np.asarray(out.positions[row]) >= 0
        masses = np.asarray(out.masses[row])[there]
        assert masses[:, 0].sum() == len(at) - 4
        assert masses[:, 1].sum() == sum(range(5, len(at) + 1))
        assert (masses[:, 0] < np.asarray(out.sizes[row])[there]).any()
        expected = numpy_pooling(mode, np.asarray(out.hidden[row])[there], *masses.T)
        np.testing.assert_allclose(out.embedding[row], expected, **SAME)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("mode", ["cls", "mean", "lasttoken"])
def test_an_embedding_does_not_depend_on_padding_or_companions(family, mode):
    model, params = make(family, modes=(mode,), steps=(NormalizeStep(),))
    batch, slots = tiny.mixed_batch(family)
    for alpha in (None, 0.8):
        together = latadj_jax.apply(model, params, batch, alpha).embedding
        for row, at in enumerate(slots[:3]):
            alone = {key: value[row : row + 1, at] for key, value in batch.items()}
            one = latadj_jax.apply(model, params, alone, alpha).embedding
            np.testing.assert_allclose(together[row], one[0], **SAME)


@pytest.mark.parametrize(
    ("family", "mode", "reads"),
    [("bert", "cls", "protected"), ("bert", "lasttoken", "restored"), ("bert", "mean", "remaining"),
     ("gpt2", "lasttoken", "protected"), ("llama", "cls", "restored"), ("t5", "cls", "restored")],
)  # fmt: skip
def test_a_position_that_may_go_is_read_as_it_was_when_it_went(family, mode, reads):
    model, params = make(family, modes=(mode,))
    assert model.config.embedding.reads(model.config.protects) == reads
    assert model.reads_all == (reads != "protected")
    batch, slots = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch, 0.5)
    restored = latadj_jax.apply(model, params, batch, 0.5, restore=True)
    for row, at in enumerate(slots):
        at_end = at[0 if mode == "cls" else -1]
        if mode != "mean":
            np.testing.assert_allclose(out.embedding[row], restored.hidden[row, at_end], **SAME)
