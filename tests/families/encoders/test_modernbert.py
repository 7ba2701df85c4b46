"""ModernBERT: local layers, rotary positions of two kinds, published configs, its heads.

What it shares with every family is in the matrices of test_parity.py and test_promises.py.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from oracle import kept_by_formula, kept_by_table
from oracle_modernbert import ModernBert
from tolerance import SAME
from torch_models import compare_both_ways

import latadj_jax
from latadj_jax import make_plan
from latadj_jax.elimination.score import mean_of_viewers, score_vector
from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import config_from_hf
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.training import losses

FAMILY = "modernbert"
BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}


def make(task="classification", **changes):
    return tiny.make(FAMILY, task, **changes)


# ---- elimination, against plain NumPy that deletes word-vectors ---------------------------------


def expect(model, params, batch, slots, keep, merge=False, every=3):
    """The oracle's answer for every row of the batch."""
    oracle = ModernBert(model.config, params, every, (50.0, 10.0))
    answers = [
        oracle.run(batch["input_ids"][row, at], at, keep, merge=merge)
        for row, at in enumerate(slots)
    ]
    # Float32 could otherwise choose differently by rounding alone; pick another seed then.
    assert min(answer.margin for answer in answers) > 1e-4
    return answers


def run_and_compare(alpha, keep, *, surplus=False, every=3, atol=5e-5, options=None, **changes):
    """Runs a batch with every kind of padding and compares it with the oracle."""
    options = options or {}
    model, params = make(**changes)
    batch, slots = tiny.mixed_batch(FAMILY)
    merge = options.get("strategy") == "merge"
    answers = expect(model, params, batch, slots, keep, merge, every)
    plan = model.plan(alpha, 16, **options)
    if surplus:  # of buffers that have room for everything in every layer
        out = simulate(model, params, batch, plan)
        assert out.hidden.shape[1] == 16 > plan.counts[-1]
    else:
        out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    out = jax.tree.map(np.asarray, out)
    for row, (answer, at) in enumerate(zip(answers, slots, strict=True)):
        kept = len(answer.slots)
        positions = out.positions[row].tolist()
        assert positions == answer.slots + [-1] * (len(positions) - kept)
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=atol)
        np.testing.assert_array_equal(out.sizes[row, :kept], answer.sizes)
        np.testing.assert_allclose(out.logits[row], answer.logits, atol=atol)
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            # In the first layer word-vectors lie where their tokens do, later on at the front.
            present = at if layer == 0 else np.arange(len(expected))
            np.testing.assert_allclose(scores[row, present], expected, atol=atol)
            assert (np.delete(scores[row], present) == 0).all()
            assert np.mean(scores[row, present]) == pytest.approx(1, abs=1e-5)
    return answers


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("alpha", [1.0, 0.8])
def test_elimination_equals_deleting_rows_one_example_at_a_time(alpha, strategy, pooling):
    """Alpha 1 leaves the second layer uncut, 0.8 cuts all three; layers 2 and 3 are local."""
    rates = [min(1.0, alpha * ep) for ep in tiny.PROFILE.rates]
    answers = run_and_compare(
        alpha, kept_by_formula(rates), options={"strategy": strategy}, classifier_pooling=pooling
    )
    assert [len(a.slots) for a in answers] == ([6, 3, 2, 3] if alpha == 1.0 else [2, 1, 1, 1])


@pytest.mark.parametrize("every", [1, 2])
def test_other_layers_may_be_global_and_everything_may_have_a_bias(every):
    """With every second, word-vectors that were removed by a local layer lie between others."""
    keep = kept_by_formula(tiny.PROFILE.rates)
    run_and_compare(1.0, keep, every=every, global_attn_every_n_layers=every, **BIASES)


@pytest.mark.parametrize("strategy", ["score", "merge"])
def test_surplus_of_larger_buffers_is_masked_out(strategy):
    keep = kept_by_formula(tiny.PROFILE.rates)
    run_and_compare(1.0, keep, surplus=True, options={"strategy": strategy})


def test_padded_counts_follow_the_padded_length():
    counts = make_plan(tiny.PROFILE, 1.0, 16).counts
    run_and_compare(1.0, kept_by_table(counts), options={"count": "padded"})


@pytest.mark.parametrize(("strategy", "removed_as"), [("score", "left"), ("merge", "joined")])
def test_every_token_is_answered_for(strategy, removed_as):
    """Removed ones as they were when they left, or as what they went into."""
    model, params = make()
    tagger, own = make("token-classification")
    own = {**params, "head": own["head"], "classifier": own["classifier"]}
    batch, slots = tiny.mixed_batch(FAMILY)
    merge = strategy == "merge"
    keep = kept_by_formula(tiny.PROFILE.rates)
    oracle = ModernBert(model.config, own, 3, (50.0, 10.0))
    tagger = tagger.replace(strategy=strategy, removed_as=removed_as)
    out = latadj_jax.apply(tagger, own, batch, 1.0)
    for row, at in enumerate(slots):
        answer = oracle.run(batch["input_ids"][row, at], at, keep, merge=merge)
        of = answer.owners if removed_as == "joined" else dict(zip(at, at, strict=True))
        for slot in at:
            expected = oracle.logits(answer.restored[of[int(slot)]])
            np.testing.assert_allclose(out.logits[row, slot], expected, atol=5e-5)


def test_what_is_far_is_not_seen_however_little_lies_between():
    """Of a text whose middle is removed, the ends do not see each other.

    Fails where a window is counted over what remains: the first four saw as far as position 6 in
    the first layer, and see only each other in those that follow.
    """
    model, params = make("features", layer_types=("sliding_attention",) * 3)
    model = model.replace(profile=latadj_jax.Profile((0.5, 1.0, 1.0)), strategy="ends")
    ids = tiny.example(16, 0, FAMILY)["input_ids"]
    other = np.where(np.arange(16) < 7, ids, (ids + 7) % tiny.VOCAB).astype(np.int32)
    out, changed = (
        latadj_jax.apply(model, params, {"input_ids": x[None]}, 1.0) for x in (ids, other)
    )
    assert out.positions[0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    np.testing.assert_allclose(out.hidden[0, :4], changed.hidden[0, :4], **SAME)
    assert np.abs(out.hidden[0, 4:] - changed.hidden[0, 4:]).max() > 0.1


@pytest.fixture(autouse=True)
def ends(monkeypatch):
    """A strategy that removes the middle."""
    from latadj_jax.elimination import strategies

    def rank(positions_BL):
        return jnp.abs(positions_BL.astype(jnp.float32) - 7.5)

    registry = {**strategies.STRATEGIES, "ends": strategies.Strategy("ends", rank)}
    monkeypatch.setattr(strategies, "STRATEGIES", registry)


# ---- the score of a local layer -----------------------------------------------------------------


def test_the_score_of_the_docstring_example():
    received, viewers = jnp.array([[1.1, 1.5, 0.4]]), jnp.array([[2, 3, 2]])
    scores = mean_of_viewers(received, viewers, jnp.ones((1, 3), bool))
    np.testing.assert_allclose(scores, [[1.32, 1.2, 0.48]], atol=1e-6)


def test_where_all_see_all_it_is_the_score_vector():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(6), size=(2, 3, 6)).astype(np.float32)
    valid = jnp.ones((2, 6), bool)
    expected = score_vector(jnp.asarray(probs), valid)
    received = jnp.asarray(probs).mean(axis=1).sum(axis=1)
    found = mean_of_viewers(received, jnp.full((2, 6), 6), valid)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- parity with published configs --------------------------------------------------------------

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
NESTED = {
    "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
}
UNUSED = {
    "gradient_checkpointing": False,
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "absolute",
    "reference_compile": True,
    "deterministic_flash_attn": False,
    "sparse_prediction": False,
    "sparse_pred_ignore_index": -100,
    "repad_logits_with_grad": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
LARGE = {
    **UNUSED,
    "hidden_size": 64,
    "intermediate_size": 82,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "classifier_pooling": "mean",
}
# As their config.json has it, but smaller: layers, widths, windows and vocabularies.
PUBLISHED = {
    "MoritzLaurer/ModernBERT-large-zeroshot-v2.0": (
        "classification",
        {**LARGE, "num_hidden_layers": 5},
    ),
    "Alibaba-NLP/gte-reranker-modernbert-base": (
        "ranking",
        {
            **LARGE,
            "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
        },
    ),
    "jhu-clsp/mmBERT-small": (
        "features",
        {
            **UNUSED,
            "hidden_size": 48,
            "num_attention_heads": 6,
            "position_embedding_type": "sans_pos",
            "global_rope_theta": 160000.0,
            "local_rope_theta": 160000.0,
        },
    ),
    "ibm-granite/granite-embedding-small-english-r2": (
        "features",
        {
            **UNUSED,
            "num_hidden_layers": 4,
            "global_rope_theta": 80000.0,
            "local_rope_theta": 10000.0,
        },
    ),
    "mmBERT stretched to 32768 positions": (
        "classification",
        {**LARGE, "rope_scaling": YARN, "max_position_embeddings": 32},
    ),
}
VARIANTS = {
    **PUBLISHED,
    "as transformers 5 spells it": (
        "classification",
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": NESTED,
            "global_rope_theta": 7.0,
        },
    ),
    "biases, other activations": (
        "classification",
        {**BIASES, "hidden_activation": "silu", "classifier_activation": "tanh", "norm_eps": 0.1},
    ),
    "biases of tags": ("token-classification", BIASES),
    "every second, a window of none": (
        "question-answering",
        {"global_attn_every_n_layers": 2, "local_attention": 1},
    ),
    "every layer": ("classification", {"global_attn_every_n_layers": 1, "local_attention": 7}),
}


@pytest.mark.parametrize(("task", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_dense_equals_hugging_face_whatever_the_config_says(task, changes, tmp_path):
    compare_both_ways(FAMILY, task, tmp_path, **changes)


def test_a_text_of_many_windows_equals_hugging_face(tmp_path):
    """Padded on the left, where positions count from the first token."""
    from torch_models import random_torch_model, run_torch

    theirs = random_torch_model(FAMILY, "classification", max_position_embeddings=300)
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    batch, slots = tiny.padded([tiny.example(200, 0, FAMILY)], "left", 256)
    hidden, _, _ = run_torch(theirs, batch)
    out = latadj_jax.apply(model, params, batch)
    np.testing.assert_allclose(out.hidden[0, slots[0]], hidden[0, slots[0]], rtol=0, atol=1e-4)


# ---- configs ------------------------------------------------------------------------------------


def config(**changes):
    return config_from_hf(tiny.hf_config(FAMILY, "classification", **changes))


def test_both_spellings_are_one_config_and_both_are_written():
    old = config(global_rope_theta=9.0, local_rope_theta=3.0, global_attn_every_n_layers=2)
    new = config(
        global_rope_theta=None,
        local_rope_theta=None,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 9.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3.0},
        },
    )
    assert old == new
    for one in (old, new):
        hf = json.loads(json.dumps(one.to_hf()))
        assert (hf["global_rope_theta"], hf["local_rope_theta"]) == (9.0, 3.0)
        assert hf["rope_parameters"]["sliding_attention"]["rope_theta"] == 3.0
        assert hf["layer_types"] == ["full_attention", "sliding_attention", "full_attention"]
        assert hf["global_attn_every_n_layers"] == 2
        assert config_from_hf(hf) == one


def test_layer_types_that_follow_no_number_have_none():
    one = config(layer_types=["sliding_attention", "full_attention", "sliding_attention"])
    assert one.to_hf()["global_attn_every_n_layers"] is None
    assert config_from_hf(one.to_hf()) == one
    assert [one.window(layer) for layer in range(3)] == [3, None, 3]


def test_defaults_are_those_of_hugging_face():
    transformers = pytest.importorskip("transformers")
    sizes = {
        key: tiny.FAMILIES[FAMILY][key]
        for key in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers",
                    "num_attention_heads", "intermediate_size")
    }  # fmt: skip
    ours = config_from_hf(sizes)
    theirs = transformers.AutoConfig.for_model(**sizes)
    assert ours.local_attention == theirs.local_attention
    assert list(ours.layer_types) == theirs.layer_types
    written = ours.to_hf()
    assert written["rope_parameters"] == theirs.rope_parameters
    skipped = {"id2label", "label2id", "layer_types", "rope_parameters", "pad_token_id"}
    for key in {*written} - skipped:
        if hasattr(theirs, key):
            assert written[key] == getattr(theirs, key), key
    assert ours.max_positions == 8192


@pytest.mark.parametrize(("value", "theta"), [(None, 50.0), (7.0, 7.0)])
def test_local_layers_without_a_theta_have_that_of_global_ones(value, theta):
    """As in transformers 4; left out altogether it is 10000."""
    assert config(local_rope_theta=value).ropes[1].theta == theta
    hf = tiny.hf_config(FAMILY)
    del hf["local_rope_theta"]
    assert config_from_hf(hf).ropes[1].theta == 10000.0


def test_the_side_of_a_window_may_be_named():
    """As transformers 5 reads it."""
    assert config(sliding_window=2).window(1) == 2
    assert config(local_attention=129).window(1) == 64
    assert config(local_attention=1).window(1) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier_pooling": "max"}, "classifier_pooling must be 'cls' or 'mean'; it is 'max'"),
        ({"hidden_activation": "mish"}, "hidden_activation 'mish' is not implemented"),
        ({"local_attention": -1}, "local_attention must be an integer of at least 1; it is -1"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers 3"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types must be a list of 'full_att"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers must be an integer"),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_parameters must have an object for"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}},
            "a rope of type 'dynamic' is not implemented for full_attention",
        ),
        ({"rope_scaling": {"type": "odd"}}, "rope scaling of type 'odd' is not implemented"),
        ({"hidden_size": 36, "num_attention_heads": 4}, "36 over num_attention_heads 4 is odd"),
        ({"hidden_size": 33}, "hidden_size 33 is not a multiple of num_attention_heads 4"),
        ({"initializer_cutoff_factor": 0.0}, "initializer_cutoff_factor must be a number greater"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


# ---- heads --------------------------------------------------------------------------------------


def test_a_mean_is_of_what_remains_whether_or_not_the_rest_is_restored():
    model, params = make(classifier_pooling="mean")
    batch, _ = tiny.mixed_batch(FAMILY)
    out, restored = (
        latadj_jax.apply(model, params, batch, 0.8, restore=restore) for restore in (False, True)
    )
    assert restored.hidden.shape[1] == 16 > out.hidden.shape[1]
    np.testing.assert_allclose(restored.logits, out.logits, **SAME)


@pytest.mark.parametrize("task", ["classification", "regression", "multi-label", "ranking"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_head_that_reads_the_mean_reads_all_when_it_is_served_and_trained(task, pooling):
    """Fails where the last layer leaves CLS alone for it, or does not for one that reads CLS."""
    model, params = make(task, classifier_pooling=pooling)
    assert model.reads_all == (pooling == "mean")
    batch, _ = tiny.mixed_batch(FAMILY)
    plan = model.plan(0.8, 16)
    whole = latadj_jax.apply(model, params, batch, plan=plan)
    served = latadj_jax.apply(model, params, batch, plan=model.head_plan(plan))
    np.testing.assert_allclose(served.logits, whole.logits, **SAME)
    assert (served.hidden.shape[1] == 1) == (pooling == "cls")
    extra = {"labels": np.zeros((4, 3), np.float32), "weights": np.ones(4, np.float32)}
    outcome = losses.outcome(model, params, {**batch, **extra}, plan)
    np.testing.assert_allclose(outcome.logits, whole.logits, **SAME)


def test_a_masked_language_model_gives_its_encoder_and_head_to_a_classifier(tmp_path, caplog):
    """As ModernBERT-base is used: of its own head the dense layer stays, as in Hugging Face."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = {**tiny.hf_config(FAMILY), "architectures": ["ModernBertForMaskedLM"]}
    masked = transformers.AutoModelForMaskedLM.from_config(
        transformers.AutoConfig.for_model(**values)
    )
    masked.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the head of ModernBertForMaskedLM is not implemented"):
        latadj_jax.from_pretrained(tmp_path)
    for num_labels in (2, 4):
        caplog.clear()
        _, params = latadj_jax.from_pretrained(tmp_path, "classification", num_labels)
        assert "Drawn anew, as the checkpoint lacks them: classifier." in caplog.text
        assert "head.dense" not in caplog.text
        kernel = params["head"]["dense"]["kernel"]
        np.testing.assert_array_equal(kernel, masked.head.dense.weight.detach().numpy().T)
        assert params["classifier"]["kernel"].shape == (32, num_labels)
    latadj_jax.from_pretrained(tmp_path, "embedding")
    assert "Left behind, as this task does not read them: decoder.bias" in caplog.text


def test_fused_tensors_are_split_along_their_outputs(tmp_path):
    """Query, key and value; the gate, which is activated, and what it opens for. And joined."""
    model, params = make("features", num_hidden_layers=1, **BIASES)
    latadj_jax.save_pretrained(tmp_path, model, params)
    tensors = latadj_jax.pretrained.weights.read_tensors(tmp_path)
    layer = params["layer_0"]
    for fused, parts in (("attn.Wqkv", ("query", "key", "value")), ("mlp.Wi", ("gate", "up"))):
        for leaf, of_ours in (("weight", "kernel"), ("bias", "bias")):
            array = tensors.pop(f"layers.0.{fused}.{leaf}")
            expected = [np.asarray(layer[part][of_ours]).T for part in parts]
            np.testing.assert_array_equal(array, np.concatenate(expected))
    assert not any("Wqkv" in name or "Wi" in name for name in tensors)


# ---- dtypes and dropout -------------------------------------------------------------------------


def test_half_precision_is_close_and_keeps_its_dtype():
    model, params = make(classifier_pooling="mean")
    batch, _ = tiny.mixed_batch(FAMILY)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = latadj_jax.apply(model.replace(dtype="bfloat16"), half, batch, return_scores=True)
    exact = latadj_jax.apply(model, params, batch, return_scores=True)
    assert out.hidden.dtype == jnp.bfloat16
    assert out.logits.dtype == out.scores[1].dtype == jnp.float32
    for scores, exactly in zip(out.scores, exact.scores, strict=True):
        np.testing.assert_allclose(scores, exactly, atol=0.15)
    np.testing.assert_allclose(out.hidden.astype(jnp.float32), exact.hidden, atol=0.3)


DROPOUTS = ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout")


@pytest.mark.parametrize("on", DROPOUTS)
def test_each_dropout_acts_where_it_should(on):
    """Dropped attention must change what a layer says, not who stays in it."""
    changes = {"num_hidden_layers": 1, "layer_types": ("sliding_attention",)}
    model, params = make(**changes)
    batch, _ = tiny.mixed_batch(FAMILY)
    plain = latadj_jax.apply(model, params, batch, 1.0, return_scores=True)
    model, _ = make(**{**changes, **dict.fromkeys(DROPOUTS, 0.0), on: 0.5})
    out = latadj_jax.apply(
        model, params, batch, 1.0, train=True, rngs={"dropout": jax.random.key(0)},
        return_scores=True,
    )  # fmt: skip

    def same(x, y):
        return np.allclose(x, y, atol=1e-5)

    assert same(out.scores[0], plain.scores[0]) == (on != "embedding_dropout")
    if on != "embedding_dropout":
        assert same(out.hidden, plain.hidden) == (on == "classifier_dropout")
    assert not same(out.logits, plain.logits)


# ---- work ---------------------------------------------------------------------------------------


def test_a_local_layer_is_counted_with_the_keys_of_its_window():
    """16 word-vectors of which each sees 7 in layer 2 and 3, where 11 and 11 enter."""
    model, _ = make()
    plan = model.plan(1.0, 16)
    assert (plan.into, plan.counts) == ((16, 11, 11), (11, 11, 6))
    d, f = 32, 3 * 48
    seen = (16, 7, 7)
    expected = [
        3 * d * d * n + d * n * s + (d * s + d * d + d * f) * k
        for n, s, k in zip(plan.into, seen, plan.counts, strict=True)
    ]
    assert list(latadj_jax.elimination.speedup.layer_macs(model, plan)) == expected
    short = model.plan(1.0, 4)
    assert latadj_jax.macs(model, short) == latadj_jax.macs(
        model.replace(config=config(local_attention=128)), short
    )
