"""Models of transformers on torch, and what it takes to be the same as they are."""

import numpy as np
import pytest
import tiny

import latadj_jax


def with_drawn_weights(model):
    """A torch model with random weights of a size at which everything matters."""
    import torch

    rng = np.random.default_rng(1)
    for name, parameter in model.named_parameters():
        *_, module, leaf = name.split(".")
        if leaf == "weight":
            norm = "norm" in module.lower() or module.startswith("ln_")
            word = "embed" in module or module in ("wte", "wpe")
            leaf = "scale" if norm else "embedding" if word else "kernel"
        drawn = tiny.draw(leaf, tuple(parameter.shape), rng)
        parameter.data = torch.from_numpy(drawn)
    return model


def hf_class(task, family="bert"):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if (family, task) == ("t5", "features"):
        return transformers.T5EncoderModel
    return {
        "features": transformers.AutoModel,
        "lm": transformers.AutoModelForCausalLM,
        "token-classification": transformers.AutoModelForTokenClassification,
        "question-answering": transformers.AutoModelForQuestionAnswering,
    }.get(task, transformers.AutoModelForSequenceClassification)


def random_torch_model(family, task, **changes):
    """A Hugging Face model with random weights of a size at which everything matters."""
    hf = hf_class(task, family)
    import transformers

    config = transformers.AutoConfig.for_model(**tiny.hf_config(family, task, **changes))
    return with_drawn_weights(hf(config) if family == "t5" else hf.from_config(config))


def run_torch(model, batch):
    """Its hidden states, pooled vector (or None) and logits (or None)."""
    import torch

    inputs = {key: torch.from_numpy(np.asarray(value, np.int64)) for key, value in batch.items()}
    # It counts positions from the start of the row, we from the first valid token.
    start = inputs["attention_mask"].argmax(dim=1, keepdim=True)
    rows = torch.arange(inputs["input_ids"].shape[1])
    if model.config.model_type != "t5":  # which knows distances only
        first = {"roberta": model.config.pad_token_id or 0, "mpnet": 1}
        first = first[model.config.model_type] + 1 if model.config.model_type in first else 0
        inputs["position_ids"] = (rows - start).clamp(min=0) + first
    with torch.no_grad():
        out = model.eval()(**inputs, output_hidden_states=True)
    hidden = out.get("last_hidden_state", out.hidden_states[-1]).numpy()
    pooled, logits = out.get("pooler_output"), out.get("logits")
    if "start_logits" in out:
        logits = torch.stack([out.start_logits, out.end_logits], dim=-1)
    return hidden, *(None if x is None else x.numpy() for x in (pooled, logits))


def assert_same_as_torch(out, theirs, batch, family):
    hidden, pooled, logits = theirs
    valid = batch["attention_mask"] > 0
    np.testing.assert_array_equal(np.asarray(out.positions) >= 0, valid)
    np.testing.assert_allclose(out.hidden[valid], hidden[valid], rtol=0, atol=1e-4)
    if family not in tiny.ENCODERS:
        assert out.pooled is None
        rows = slice(None)
    else:
        rows = valid[:, 0]  # its heads read column 0, whether a token is there or not
        assert rows.any()
    assert (logits is None) == (out.logits is None)
    for ours, other in ((out.pooled, pooled), (out.logits, logits)):
        if other is not None:
            rows = valid if other.ndim == 3 else rows  # of every token
            np.testing.assert_allclose(ours[rows], other[rows], rtol=0, atol=1e-4)


def compare_both_ways(family, task, folder, **changes):
    """From torch's files to our parameters, and from ours to a torch model."""
    theirs = random_torch_model(family, task, **changes)
    theirs.save_pretrained(folder / "theirs")
    model, params = latadj_jax.from_pretrained(folder / "theirs")
    assert model.task == task
    batch, _ = tiny.mixed_batch(family)
    out = latadj_jax.apply(model, params, batch)
    assert_same_as_torch(out, run_torch(theirs, batch), batch, family)

    latadj_jax.save_pretrained(folder / "ours", model.replace(alpha=0.7), params)
    back, report = hf_class(task, family).from_pretrained(folder / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert_same_as_torch(out, run_torch(back, batch), batch, family)
    names = [back.config.id2label[i] for i in range(back.config.num_labels)]
    assert tuple(names) == model.config.labels
    return back
