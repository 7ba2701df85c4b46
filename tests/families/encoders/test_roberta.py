"""RoBERTa, XLM-RoBERTa, CamemBERT: names, positions from the padding id on, a head of two layers.

What they share with every family is in the matrices of test_parity.py and test_promises.py.
"""

import json

import jax
import numpy as np
import pytest
import tiny
from flax.serialization import msgpack_serialize
from flax.traverse_util import unflatten_dict

import latadj_jax
from latadj_jax.families.registry import FAMILIES, config_from_hf

NAMES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
each_name = pytest.mark.parametrize("model_type", NAMES)


def hf_config(model_type: str, task: str, **changes) -> dict:
    head = {"features": "Model", "classification": "ForSequenceClassification"}[task]
    values = tiny.hf_config("roberta", task, **changes)
    return {**values, "model_type": model_type, "architectures": [NAMES[model_type] + head]}


def their_model(model_type: str, task: str, **changes):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        **hf_config(model_type, task, initializer_range=0.3, **changes)
    )
    auto = {"features": transformers.AutoModel}.get(
        task, transformers.AutoModelForSequenceClassification
    )
    return auto.from_config(config).eval()


def padded_right() -> dict[str, np.ndarray]:
    """Texts that begin with <s>, and the padding id where no token is, as its tokenizer pads."""
    rng, lengths = np.random.default_rng(0), (16, 9, 12)
    ids = rng.integers(4, tiny.VOCAB, (3, 16)).astype(np.int32)
    ids[:, 0] = 0
    mask = (np.arange(16) < np.array(lengths)[:, None]).astype(np.int32)
    return {"input_ids": np.where(mask, ids, 1).astype(np.int32), "attention_mask": mask}


def run_torch(model, batch):
    import torch

    with torch.no_grad():  # it makes the positions itself
        return model(**{k: torch.from_numpy(v.astype(np.int64)) for k, v in batch.items()})


@each_name
@pytest.mark.parametrize("task", ["features", "classification"])
def test_dense_equals_hugging_face_with_positions_of_its_own_making(model_type, task, tmp_path):
    theirs = their_model(model_type, task)
    theirs.save_pretrained(tmp_path)
    model, params = latadj_jax.from_pretrained(tmp_path)
    assert (model.task, model.family.name) == (task, model_type)
    batch = padded_right()
    out, expected = latadj_jax.apply(model, params, batch), run_torch(theirs, batch)
    if task == "classification":
        np.testing.assert_allclose(out.logits, expected.logits.numpy(), rtol=0, atol=1e-4)
        assert out.pooled is None
    else:
        valid = batch["attention_mask"] > 0
        hidden = expected.last_hidden_state.numpy()
        np.testing.assert_allclose(out.hidden[valid], hidden[valid], rtol=0, atol=1e-4)
        np.testing.assert_allclose(out.pooled, expected.pooler_output.numpy(), rtol=0, atol=1e-4)


@each_name
def test_what_is_saved_hugging_face_loads(model_type, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = config_from_hf(hf_config(model_type, "classification"))
    model = latadj_jax.Model(config, "classification", strategy="merge", alpha=0.8)
    params = tiny.random_params(model)
    latadj_jax.save_pretrained(tmp_path, model, params)
    auto = transformers.AutoModelForSequenceClassification
    back, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert type(back).__name__ == f"{NAMES[model_type]}ForSequenceClassification"
    batch = padded_right()
    ours = latadj_jax.apply(model, params, batch).logits
    np.testing.assert_allclose(ours, run_torch(back.eval(), batch).logits, rtol=0, atol=1e-4)
    loaded, _ = latadj_jax.from_pretrained(tmp_path)
    assert (loaded.alpha, loaded.strategy) == (0.8, "merge")
    assert torch.is_tensor(back.roberta.embeddings.position_embeddings.weight)


@pytest.mark.parametrize("layout", ["bin", "msgpack"])
def test_other_formats_have_the_same_names(layout, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = their_model("roberta", "classification")
    theirs.save_pretrained(tmp_path / "safetensors")
    folder = tmp_path / layout
    folder.mkdir()
    (folder / "config.json").write_text((tmp_path / "safetensors/config.json").read_text())
    state = theirs.state_dict()
    if layout == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(flax_tree(state)))
    wanted, found = (latadj_jax.from_pretrained(f)[1] for f in (tmp_path / "safetensors", folder))
    assert tiny.same_params(wanted, found)


def flax_tree(state) -> dict:
    """As Hugging Face had it: kernels [in, out], and leaves named by what they are."""
    tree = {}
    for name, tensor in state.items():
        *module, leaf = name.split(".")
        array = tensor.numpy()
        if leaf == "weight":
            norm, table = "LayerNorm" in module, module[-1].endswith("embeddings")
            leaf = "scale" if norm else "embedding" if table else "kernel"
            array = array if norm or table else array.T
        tree[(*module, leaf)] = np.ascontiguousarray(array)
    return unflatten_dict(tree)


def test_a_table_of_514_rows_reads_512_tokens():
    """Row 513 is the last token's; a 513th token would have none, and is refused."""
    config = config_from_hf(
        hf_config("roberta", "classification", max_position_embeddings=514, num_hidden_layers=1)
    )
    assert config.max_positions == 512
    model = latadj_jax.Model(config, "classification")
    params = tiny.random_params(model)
    ids = np.full((1, 512), 7, np.int32)
    assert np.isfinite(latadj_jax.apply(model, params, {"input_ids": ids}).logits).all()
    position = params["embeddings"]["position"]["embedding"]
    assert position.shape[0] == 514

    def logits(table):
        embeddings = {**params["embeddings"], "position": {"embedding": table}}
        return latadj_jax.apply(model, {**params, "embeddings": embeddings}, {"input_ids": ids})

    moved = logits(position.at[513].multiply(-1.0)).logits
    unmoved = logits(position.at[:2].multiply(-1.0)).logits
    plain = latadj_jax.apply(model, params, {"input_ids": ids}).logits
    assert not np.allclose(moved, plain, atol=1e-6)
    np.testing.assert_array_equal(unmoved, plain)  # rows of the padding id are never read
    longer = np.full((1, 513), 7, np.int32)
    with pytest.raises(ValueError, match="513 tokens long, the model has 512 positions"):
        latadj_jax.apply(model, params, {"input_ids": longer})


def test_a_table_without_room_is_refused():
    with pytest.raises(ValueError, match="leaves no position after that of pad_token_id 1"):
        config_from_hf(hf_config("roberta", "features", max_position_embeddings=2))


def test_the_first_token_is_protected_at_every_alpha():
    model, params = tiny.make("roberta", "classification")
    batch = padded_right()
    plan = model.plan(1e-6, 16)
    out = latadj_jax.apply(model, params, batch, plan=plan)
    assert out.positions.tolist() == [[0], [0], [0]]


def test_a_masked_language_model_gives_its_encoder_to_a_new_head(tmp_path, caplog):
    """As roberta-base is used: its own head is left behind, a classifier is drawn."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = {**hf_config("roberta", "features"), "architectures": ["RobertaForMaskedLM"]}
    config = transformers.AutoConfig.for_model(**values)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"]
    with pytest.raises(ValueError, match="the head of RobertaForMaskedLM is not implemented"):
        latadj_jax.from_pretrained(tmp_path)
    _, params = latadj_jax.from_pretrained(tmp_path, "classification", 4)
    assert "classifier.dense.weight" in caplog.text
    assert params["classifier"]["out"]["kernel"].shape == (32, 4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_all_three_are_one_module():
    modules = {FAMILIES[name].module for name in (*NAMES, "bert")}
    assert len(modules) == 1
