"""DistilBERT, ELECTRA, ALBERT, MPNet: what is their own beside the matrices of every family."""

import json

import jax
import numpy as np
import oracle
import pytest
import tiny
from torch_models import assert_same_as_torch, compare_both_ways, random_torch_model, run_torch

import latadj_jax
from latadj_jax.families.registry import config_from_hf

each_family = pytest.mark.parametrize("family", tiny.BERTS)


@each_family
@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_elimination_equals_deleting_rows_one_example_at_a_time(family, strategy):
    model, params = tiny.make(family, "features")
    batch, slots = tiny.mixed_batch(family)
    keep = oracle.kept_by_formula([min(1.0, 0.8 * ep) for ep in tiny.PROFILE.rates])
    plan = model.plan(0.8, 16, strategy=strategy)
    out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    out = jax.tree.map(np.asarray, out)
    for row, at in enumerate(slots):
        ids = batch["input_ids"][row, at]
        types = batch.get("token_type_ids", np.zeros_like(batch["input_ids"]))[row, at]
        answer = oracle.run(model.config, params, ids, types, at, keep, merge=strategy == "merge")
        assert answer.margin > 1e-4  # float32 cannot choose otherwise
        kept = len(answer.slots)
        assert out.positions[row][out.positions[row] >= 0].tolist() == answer.slots
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=3e-5)
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            present = at if layer == 0 else np.arange(len(expected))
            np.testing.assert_allclose(scores[row][present], expected, atol=3e-5)


# What published checkpoints' configs say beside the tiny ones, scaled down.
PUBLISHED = {
    "distilbert-base-uncased": ("distilbert", {"sinusoidal_pos_embds": False}),
    "distilbert-base-multilingual-cased": (
        "distilbert",
        {"output_past": True, "sinusoidal_pos_embds": False, "qa_dropout": 0.1},
    ),
    "distilroberta and others by Hub class": ("distilbert", {"activation": "relu"}),
    "electra-small-discriminator": (
        "electra",
        {"embedding_size": 16, "summary_type": "first", "summary_use_proj": True},
    ),
    "electra-base-discriminator": ("electra", {"embedding_size": 32, "layer_norm_eps": 1e-12}),
    "koelectra, other vocabulary": ("electra", {"embedding_size": 24, "type_vocab_size": 2}),
    "albert-base-v1": ("albert", {"hidden_act": "gelu", "inner_group_num": 1}),
    "albert-base-v2": ("albert", {"num_hidden_groups": 1, "gap_size": 0, "down_scale_factor": 1}),
    "paraphrase-albert-small-v2": ("albert", {"hidden_act": "gelu_new", "num_memory_blocks": 0}),
    "mpnet-base": ("mpnet", {"layer_norm_eps": 1e-5, "relative_attention_num_buckets": 32}),
    "all-mpnet-base-v2": ("mpnet", {"layer_norm_eps": 1e-5, "gradient_checkpointing": False}),
}  # fmt: skip


@pytest.mark.parametrize(("family", "changes"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_configs_equal_hugging_face(family, changes, tmp_path):
    compare_both_ways(family, "features", tmp_path, num_hidden_layers=2, **changes)


def test_mpnet_far_behind_the_last_bucket(tmp_path):
    """Distances over 128 share a bucket, also where word-vectors are gone between."""
    theirs = random_torch_model("mpnet", "features", max_position_embeddings=202)
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    batch = {"input_ids": tiny.example(200, family="mpnet")["input_ids"][None]}
    batch["attention_mask"] = np.ones_like(batch["input_ids"])
    batch["input_ids"][batch["input_ids"] == 1] = 2  # the padding id
    out = latadj_jax.apply(model, params, batch)
    assert_same_as_torch(out, run_torch(theirs, batch), batch, "mpnet")


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_token_types_of_a_tokenizer_of_berts_are_ignored(family):
    model, params = tiny.make(family, "features")
    batch, _ = tiny.mixed_batch(family)
    types = np.tile(np.arange(16, dtype=np.int32) % 2, (4, 1))
    same = latadj_jax.apply(model, params, {**batch, "token_type_ids": types})
    np.testing.assert_array_equal(same.hidden, latadj_jax.apply(model, params, batch).hidden)


def test_albert_keeps_one_layer():
    model, params = tiny.make("albert", "features")
    assert [name for name in params if name.startswith("layer")] == ["layer"]
    assert model.config.num_layers == 3


def test_albert_trains_its_one_layer_by_the_gradients_of_all():
    """Fails where only one of the three calls has a gradient."""
    model, params = tiny.make("albert", "features")
    batch, _ = tiny.mixed_batch("albert")

    def loss(params, model):
        return (latadj_jax.apply(model, params, batch, 0.8).hidden[:, 0] ** 3).sum()

    gradient = jax.grad(loss)(params, model)["layer"]["ff_out"]["bias"]
    step = 1e-2 * np.sign(gradient)
    moved = {**params, "layer": {**params["layer"]}}
    moved["layer"]["ff_out"] = {**params["layer"]["ff_out"]}
    losses = []
    for sign in (1, -1):
        moved["layer"]["ff_out"]["bias"] = params["layer"]["ff_out"]["bias"] + sign * 0.1 * step
        losses.append(float(loss(moved, model)))
    slope = (losses[0] - losses[1]) / 2
    assert slope == pytest.approx(float((gradient * 0.1 * step).sum()), rel=0.05)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups 2 is not implemented; only 1 is"),
        ("albert", {"inner_group_num": 3}, "inner_group_num 3 is not implemented; only 1 is"),
        ("mpnet", {"relative_attention_num_buckets": 8}, "relative_attention_num_buckets 8 is not"),
        ("electra", {"embedding_size": 0}, "embedding_size must be an integer of at least 1"),
        ("electra", {"position_embedding_type": "relative_key"}, "'relative_key' is not"),
        ("distilbert", {"n_heads": 5}, "dim 32 is not a multiple of n_heads 5"),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_refused_by_name(family, changes, message):
    with pytest.raises(ValueError, match=message):
        config_from_hf({**tiny.hf_config(family), **changes})


def test_mpnet_embeds_as_sentence_transformers(tmp_path):
    """all-mpnet-base-v2's folder, scaled down: mean pooling and Normalize."""
    random_torch_model("mpnet", "features").save_pretrained(tmp_path)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(kinds.items())
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(pooling))
    model, params = latadj_jax.from_pretrained(tmp_path)
    assert model.task == "embedding"
    theirs = random_torch_model("mpnet", "features")
    batch, _ = tiny.mixed_batch("mpnet")
    mask = batch["attention_mask"][:, :, None]
    means = (run_torch(theirs, batch)[0] * mask).sum(axis=1) / mask.sum(axis=1)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    out = latadj_jax.apply(model, params, batch)
    np.testing.assert_allclose(out.embedding, expected, atol=1e-4)
