"""DeBERTa: against torch in every config, against plain NumPy that deletes word-vectors, and files.

What it shares with every family is in the matrices of test_parity.py and test_promises.py.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import oracle_deberta
import pytest
import tiny
import torch_models
from safetensors.numpy import load_file, save_file
from tolerance import SAME

import latadj_jax
from latadj_jax.errors import ConfigError
from latadj_jax.families.registry import config_from_hf

FAMILY = "deberta-v2"
# As their config.json says, but for sizes. Of microsoft/deberta-v3-small, -base and -large, which
# differ in sizes alone; mdeberta-v3-base, which has a pooler; a cross-encoder, saved again.
V3 = {"pos_att_type": "p2c|c2p", "max_relative_positions": -1, "layer_norm_eps": 1e-7}
MULTILINGUAL = {**V3, "pooler_dropout": 0, "pooler_hidden_act": "gelu", "pooler_hidden_size": 32}
PUBLISHED = {
    "deberta-v3-small": {**V3, "num_hidden_layers": 2},
    "deberta-v3-base": {**V3, "num_hidden_layers": 3, "attention_head_size": 8},
    "deberta-v3-large": {**V3, "hidden_size": 64, "num_attention_heads": 8},
    "mdeberta-v3-base": {**MULTILINGUAL, "pos_att_type": ["p2c", "c2p"]},
    "nli-deberta-v3-base": {
        **MULTILINGUAL,
        "pos_att_type": ["p2c", "c2p"],
        "id2label": {"0": "contradiction", "1": "entailment", "2": "neutral"},
        "label2id": {"contradiction": 0, "entailment": 1, "neutral": 2},
    },
}
# All of it at once where one cannot hide another.
VARIANTS = {
    "own projections, content to position alone, absolute positions, token types": {
        "share_att_key": False,
        "pos_att_type": "c2p",
        "position_biased_input": True,
        "type_vocab_size": 2,
        "embedding_size": 24,
    },
    "own projections, position to content alone, no norm, distances up to 6 without buckets": {
        "share_att_key": False,
        "pos_att_type": "p2c",
        "norm_rel_ebd": "none",
        "position_buckets": -1,
        "max_relative_positions": 6,
    },
    "own projections, both, another reach and activations": {
        "share_att_key": False,
        "max_relative_positions": 12,
        "hidden_act": "relu",
        "pooler_hidden_act": "tanh",
        "layer_norm_eps": 0.1,
    },
    "more buckets than distances": {"position_buckets": 96, "norm_rel_ebd": "LAYER_NORM | none"},
    "absolute positions alone": {
        "relative_attention": False,
        "norm_rel_ebd": "none",
        "position_biased_input": True,
    },
}


def make(task="classification", **changes):
    return tiny.make(FAMILY, task, **changes)


def config(**changes):
    return config_from_hf(tiny.hf_config(FAMILY, "classification", **changes))


# Beside torch.


@pytest.mark.parametrize("changes", [*PUBLISHED.values(), *VARIANTS.values()],
                         ids=[*PUBLISHED, *VARIANTS])  # fmt: skip
def test_dense_equals_hugging_face_whatever_the_config_says(changes, tmp_path):
    changes = {"num_hidden_layers": 2, **changes}
    torch_models.compare_both_ways(FAMILY, "classification", tmp_path, **changes)


def test_texts_may_be_longer_than_it_was_trained_on(tmp_path):
    """40 positions, 70 tokens: the farthest share the last bucket."""
    theirs = torch_models.random_torch_model(FAMILY, "features")
    theirs.save_pretrained(tmp_path)
    batch, _ = tiny.padded([tiny.example(n, n, FAMILY) for n in (70, 52)], "left", 70)
    out = latadj_jax.apply(*latadj_jax.from_pretrained(tmp_path), batch)
    expected = torch_models.run_torch(theirs, batch)
    torch_models.assert_same_as_torch(out, expected, batch, FAMILY)


def test_absolute_positions_have_an_end():
    model, params = make(num_hidden_layers=1, position_biased_input=True)
    with pytest.raises(ValueError, match="41 tokens long, the model has 40 positions"):
        latadj_jax.apply(model, params, {"input_ids": np.ones((1, 41), np.int32)})


@pytest.mark.parametrize(
    ("num_buckets", "reach"),
    [(256, 512), (256, 256), (256, 128), (128, 512), (32, 2048), (9, 33), (2, 40),
     (-1, 24), (0, 512)],
)  # fmt: skip
def test_every_distance_has_its_row_of_the_table(num_buckets, reach):
    """Where torch rounds a logarithm up, too."""
    torch = pytest.importorskip("torch")
    from transformers.models.deberta_v2 import modeling_deberta_v2 as theirs

    of = config(position_buckets=num_buckets, max_relative_positions=reach)
    length = 2000
    row_N = of.rows_of_distances(length)
    queries, keys = torch.zeros(1, length, 1), torch.zeros(1, length, 1)
    distance_IJ = theirs.build_relative_position(queries, keys, num_buckets, reach)[0]
    row_IJ = (distance_IJ + of.span).clamp(0, 2 * of.span - 1).numpy()
    np.testing.assert_array_equal(row_N, [*row_IJ[0, ::-1], *row_IJ[1:, 0]])


def test_rows_of_distances_by_hand():
    """Four rows of each direction: to 2 exact, then ceil(log(d / 2) / log(16 / 2)) + 2 is 3."""
    of = config(position_buckets=4, max_relative_positions=17)
    assert of.rows_of_distances(6).tolist() == [1, 1, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    of = config(position_buckets=-1, max_relative_positions=2)
    assert of.rows_of_distances(4).tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert config(position_buckets=-1).span == 40  # of max_position_embeddings


# Elimination.


def expect(model, params, batch, slots, keep, merge=False):
    """The oracle's answer for every row of the batch."""
    zeros = np.zeros_like(batch["input_ids"])
    answers = [
        oracle.run(
            model.config, params, batch["input_ids"][row, at],
            batch.get("token_type_ids", zeros)[row, at], at, keep, merge=merge, own=oracle_deberta,
        )
        for row, at in enumerate(slots)
    ]  # fmt: skip
    # Float32 could otherwise choose differently by rounding alone; pick another seed then.
    assert min(answer.margin for answer in answers) > 1e-4
    return answers


ELIMINATED = {
    "v3": {},
    "v3, more buckets": {"position_buckets": 12},
    **{name: VARIANTS[name] for name in list(VARIANTS)[:2]},
}


@pytest.mark.parametrize("strategy", ["score", "merge"])
@pytest.mark.parametrize("alpha", [1.0, 0.8])
@pytest.mark.parametrize("changes", ELIMINATED.values(), ids=ELIMINATED)
def test_elimination_equals_deleting_rows_one_example_at_a_time(changes, alpha, strategy):
    """Distances stay those of the text. Alpha 1 leaves the second layer uncut, 0.8 cuts all."""
    model, params = make(**changes)
    batch, slots = tiny.mixed_batch("bert" if "type_vocab_size" in changes else FAMILY)
    keep = tiny.kept_at(alpha)
    answers = expect(model, params, batch, slots, keep, merge=strategy == "merge")
    plan = model.plan(alpha, 16, strategy=strategy)
    out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    out = jax.tree.map(np.asarray, out)
    for row, answer in enumerate(answers):
        kept = len(answer.slots)
        assert out.positions[row].tolist() == answer.slots + [-1] * (len(out.positions[row]) - kept)
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=5e-5)
        np.testing.assert_allclose(out.logits[row], answer.logits, atol=5e-5)
        for layer, (scores, expected) in enumerate(zip(out.scores, answer.scores, strict=True)):
            present = slots[row] if layer == 0 else np.arange(len(expected))
            np.testing.assert_allclose(scores[row, present], expected, atol=5e-5)
    assert [len(a.slots) for a in answers] == ([6, 3, 2, 3] if alpha == 1.0 else [2, 1, 1, 1])


def test_restore_puts_back_what_each_word_vector_was_when_removed():
    model, params = make()
    batch, slots = tiny.mixed_batch(FAMILY)
    answers = expect(model, params, batch, slots, tiny.kept_at(1.0))
    out = latadj_jax.apply(model, params, batch, 1.0, restore=True)
    for row, answer in enumerate(answers):
        expected = [answer.restored[slot] for slot in slots[row]]
        np.testing.assert_allclose(out.hidden[row, slots[row]], expected, atol=5e-5)


def test_macs_count_what_distances_add():
    """XLA's own count differs from that without them by twice as many FLOPs, and little else.

    12 tokens are 23 distances: no more rows of the table are projected, however many there are.
    """
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2}
    found = {}
    for relative in (False, True):
        model, params = make(relative_attention=relative, position_buckets=256, **sizes)
        plan = latadj_jax.make_plan(latadj_jax.Profile((0.5, 0.5)), 1.0, 12)
        apply = jax.jit(latadj_jax.apply, static_argnames=("model", "plan"))
        batch = {"input_ids": jnp.ones((1, 12), jnp.int32)}
        compiled = apply.lower(model, params, batch, plan=plan).compile()
        found[relative] = compiled.cost_analysis()["flops"], latadj_jax.macs(model, plan)
    flops, macs = (there - absent for absent, there in zip(*found.values(), strict=True))
    assert macs == 2 * 128 * 23 * ((128 + 12) + (128 + 6))
    assert flops == pytest.approx(2 * macs, rel=0.1)


# What it reads.


def test_token_types_of_its_tokenizers_are_taken_and_ignored():
    model, params = make(num_hidden_layers=1)
    batch, _ = tiny.mixed_batch(FAMILY)
    types = {"token_type_ids": batch["input_ids"] % 2}
    outs = [latadj_jax.apply(model, params, b, 0.8) for b in (batch, batch | types)]
    jax.tree.map(np.testing.assert_array_equal, *outs)
    assert not any(
        "token_type" in jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(params)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_kernel_size": 3, "conv_act": "gelu"}, "conv_kernel_size 3 is not implemented"),
        ({"pos_att_type": ["c2p", "p2p"]}, r"pos_att_type \['c2p', 'p2p'\] is not implemented"),
        ({"pos_att_type": "c2p|p2p"}, r"pos_att_type 'c2p\|p2p' is not implemented"),
        ({"pos_att_type": 3}, "pos_att_type 3 is not implemented; implemented are c2p, p2c"),
        ({"pos_att_type": None}, "relative_attention is set, and pos_att_type names none"),
        ({"norm_rel_ebd": "rms"}, "norm_rel_ebd 'rms' is not implemented"),
        ({"attention_head_size": 64}, "attention_head_size 64 is not implemented; only"),
        ({"position_buckets": 1}, "position_buckets must be at least 2"),
        ({"position_buckets": 2.5}, "position_buckets must be an integer"),
        ({"max_relative_positions": "far"}, "max_relative_positions must be an integer"),
        ({"type_vocab_size": -1}, "type_vocab_size must be an integer of at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads must be an integer of at least 1"),
        ({"pooler_hidden_act": "mish"}, "pooler_hidden_act 'mish' is not implemented"),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_the_convolution_of_the_largest_v2_is_refused_before_any_weights(tmp_path):
    """microsoft/deberta-v2-xlarge."""
    hf = tiny.hf_config(FAMILY, "features", conv_kernel_size=3, conv_act="gelu")
    (tmp_path / "config.json").write_text(json.dumps(hf))
    with pytest.raises(ValueError, match="conv_kernel_size 3 is not implemented: of DeBERTa v2"):
        latadj_jax.from_pretrained(tmp_path)


def test_optional_keys_have_hugging_face_defaults():
    """What a checkpoint leaves out must mean what it means to transformers."""
    transformers = pytest.importorskip("transformers")
    hf = tiny.hf_config(FAMILY)
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
             "intermediate_size")  # fmt: skip
    hf = {"model_type": FAMILY, **{key: hf[key] for key in sizes}}
    theirs = config_from_hf(transformers.AutoConfig.for_model(**hf).to_dict())
    assert config_from_hf(hf) == theirs.replace(eos_tokens=(), pad_tokens=())


def test_writing_and_reading_gives_the_same_config():
    for changes in (*PUBLISHED.values(), *VARIANTS.values()):
        of = config(**changes)
        assert (
            config_from_hf(of.to_hf()) == config_from_hf(json.loads(json.dumps(of.to_hf()))) == of
        )


# Files.


def test_a_pretrained_discriminator_gives_its_encoder_to_a_new_head(tmp_path, caplog):
    """As microsoft/mdeberta-v3-base is found: its own heads, and tables that nothing reads."""
    model, params = make("features")
    latadj_jax.save_pretrained(tmp_path, model, params)
    tensors = load_file(tmp_path / "model.safetensors")
    words = tensors["embeddings.word_embeddings.weight"]
    tensors = {f"deberta.{name}": tensor for name, tensor in tensors.items()} | {
        "deberta.embeddings.word_embeddings._weight": words.copy(),
        "deberta.embeddings.position_embeddings.weight": words[:40].copy(),
        "deberta.embeddings.position_embeddings._weight": words[:40].copy(),
        "deberta.embeddings.position_ids": np.arange(40)[None],
        "lm_predictions.lm_head.bias": words[:, 0].copy(),
        "lm_predictions.lm_head.dense.weight": words[:32].copy(),
        "mask_predictions.LayerNorm.weight": words[0].copy(),
        "mask_predictions.classifier.bias": words[0, :1].copy(),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "elimination.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": None}))
    for task in ("features", "embedding"):
        assert tiny.same_params(latadj_jax.from_pretrained(tmp_path, task)[1], params)
    loaded, found = latadj_jax.from_pretrained(tmp_path, "classification", 4)
    assert "pooler.dense.weight" in caplog.text
    assert "mask_predictions.classifier.bias" in caplog.text
    assert "position_embeddings" not in caplog.text
    assert (found["pooler"]["kernel"].shape, found["classifier"]["kernel"].shape) == (
        (32, 32), (32, 4),
    )  # fmt: skip
    assert tiny.same_params({k: found[k] for k in params}, params)
    assert loaded.task == "classification"


@pytest.mark.parametrize("problem_type", ["multi_label_classification", None])
def test_several_labels_and_one_label_are_the_other_tasks(problem_type, tmp_path):
    task = "ranking" if problem_type is None else "multi-label"
    model, params = make(task)
    latadj_jax.save_pretrained(tmp_path, model, params)
    loaded, found = latadj_jax.from_pretrained(tmp_path)
    assert loaded.task == task
    assert tiny.same_params(found, params)
    theirs = torch_models.hf_class("classification").from_pretrained(tmp_path)
    assert theirs.config.problem_type == problem_type
    batch, _ = tiny.mixed_batch(FAMILY)
    out = latadj_jax.apply(loaded, found, batch)
    torch_models.assert_same_as_torch(out, torch_models.run_torch(theirs, batch), batch, FAMILY)


# Training.


def train_and_eval(task="classification", **dropouts):
    """One pass with dropout and one without, of the same parameters."""
    none = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "cls_dropout"),
        0.0,
    )
    model, params = make(task, num_hidden_layers=1)
    batch, _ = tiny.mixed_batch(FAMILY)
    plain = latadj_jax.apply(model, params, batch, 1.0, return_scores=True)
    model = tiny.make_model(FAMILY, task, num_hidden_layers=1, **{**none, **dropouts})
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}, "return_scores": True}
    return latadj_jax.apply(model, params, batch, 1.0, **options), plain


def differs(x, y):
    return not np.allclose(x, y, atol=1e-2)


@pytest.mark.parametrize("name", ["pooler_dropout", "cls_dropout"])
def test_the_head_drops_out_before_and_after_its_pooler(name):
    out, plain = train_and_eval(**{name: 0.5})
    np.testing.assert_allclose(out.hidden, plain.hidden, atol=1e-5)
    assert differs(out.logits, plain.logits)
    assert not differs(*(x.logits for x in train_and_eval("token-classification", **{name: 0.5})))


def test_attention_dropout_comes_after_the_score():
    out, plain = train_and_eval(attention_probs_dropout_prob=0.5)
    np.testing.assert_allclose(out.scores[0], plain.scores[0], **SAME)
    assert differs(out.hidden, plain.hidden)


def test_hidden_dropout_falls_on_relative_embeddings_and_on_the_head_of_tokens(monkeypatch):
    from latadj_jax.families.encoders import deberta

    assert config(hidden_dropout_prob=0.3, cls_dropout=0.2).head_dropout == 0.3
    assert config(hidden_dropout_prob=0.3).classifier_dropout == 0.3
    assert config(hidden_dropout_prob=0.3, cls_dropout=0.0).classifier_dropout == 0.0
    monkeypatch.setattr(deberta.DebertaEmbeddings, "__call__", without_dropout(deberta))
    out, plain = train_and_eval(hidden_dropout_prob=0.5)
    assert differs(out.scores[0], plain.scores[0])


def without_dropout(deberta):
    call = deberta.DebertaEmbeddings.__call__
    return lambda self, ids, types, positions, train: call(self, ids, types, positions, False)


def test_half_precision_is_close_and_keeps_its_dtype():
    model, params = make()
    batch, _ = tiny.mixed_batch(FAMILY)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = latadj_jax.apply(model.replace(dtype="bfloat16"), half, batch, return_scores=True)
    exact = latadj_jax.apply(model, params, batch, return_scores=True)
    assert out.hidden.dtype == jnp.bfloat16
    assert out.logits.dtype == out.scores[0].dtype == jnp.float32
    np.testing.assert_allclose(out.scores[0], exact.scores[0], atol=0.15)
    valid = batch["attention_mask"] > 0
    np.testing.assert_allclose(out.hidden.astype(jnp.float32)[valid], exact.hidden[valid], atol=0.3)
