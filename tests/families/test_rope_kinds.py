"""Whole Llamas with each kind of rope scaling, within and past their original length.

Against transformers, whose frequencies go by the longest text of a batch where ours go by each
row's own: so it gets the rows one by one, unpadded, each in a model that has seen nothing before.
"""

import copy

import numpy as np
import oracle_decoder
import pytest
import tiny

import latadj_jax

ORIGINAL = 16
YARN = {
    "rope_type": "yarn",
    "rope_theta": 50.0,
    "factor": 4.0,
    "original_max_position_embeddings": ORIGINAL,
    "beta_fast": 2.0,
    "beta_slow": 0.5,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 50.0,
    "original_max_position_embeddings": ORIGINAL,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
}
# What a config says besides: where its frequencies go by length, it counts from max_position_...
KINDS = {
    "linear": ({"rope_type": "linear", "rope_theta": 50.0, "factor": 2.5}, ORIGINAL),
    "dynamic": ({"rope_type": "dynamic", "rope_theta": 50.0, "factor": 3.0}, ORIGINAL),
    "yarn": (YARN, ORIGINAL),
    "longrope": (LONGROPE, 64),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
by_length = pytest.mark.parametrize("kind", ["dynamic", "longrope"])
LENGTHS = (10, 30, 16, 17)  # within the original length, past it, and where it ends
NEW = 10  # tokens after them, so that the first one crosses it


def make(kind):
    rope, positions = KINDS[kind]
    changes = {"num_hidden_layers": 2, "max_position_embeddings": positions}
    model = tiny.make_model("llama", "lm", rope_parameters=rope, **changes)
    return model, tiny.random_params(model)


def padded_texts():
    """A batch with rows padded on every side, the slots of their tokens, and these alone."""
    examples = [tiny.example(n, family="llama") for n in LENGTHS]
    slots = [start + np.arange(n) for start, n in zip((11, 0, 16, 0), LENGTHS, strict=True)]
    batch = tiny.lay_out(examples, slots, length=32, filling=7)
    return batch, slots, [example["input_ids"] for example in examples]


def load_theirs(folder):
    """A function that gives the saved model anew: it changes its frequencies as it reads."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs.generation_config.pad_token_id = 0
    return lambda: copy.deepcopy(theirs)


@each_kind
def test_logits_of_each_row_equal_those_of_transformers_alone(kind, tmp_path):
    """Ours are saved and loaded by transformers; what it saves is loaded here."""
    torch = pytest.importorskip("torch")
    model, params = make(kind)
    latadj_jax.save_pretrained(tmp_path / "ours", model, params)
    theirs = load_theirs(tmp_path / "ours")
    theirs().save_pretrained(tmp_path / "theirs")
    model, params = latadj_jax.from_pretrained(tmp_path / "theirs")
    batch, slots, texts = padded_texts()
    logits = np.asarray(latadj_jax.apply(model, params, batch).logits)
    for row, (at, ids) in enumerate(zip(slots, texts, strict=True)):
        with torch.no_grad():
            expected = theirs()(torch.from_numpy(ids[None].astype(np.int64))).logits[0].numpy()
        np.testing.assert_allclose(logits[row, at], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "yarn", "longrope"])
def test_texts_that_cross_the_original_length_equal_those_of_transformers(kind, tmp_path):
    """Token by token against its cache, and read on all at once."""
    torch = pytest.importorskip("torch")
    model, params = make(kind)
    latadj_jax.save_pretrained(tmp_path, model, params)
    theirs = load_theirs(tmp_path)
    batch, _, texts = padded_texts()
    spoken = np.asarray(latadj_jax.generate(model, params, batch, max_new_tokens=NEW))
    logits = latadj_jax.continuation_logits(model, params, batch, spoken)
    for row, ids in enumerate(texts):
        with torch.no_grad():
            out = theirs().generate(
                torch.from_numpy(ids[None].astype(np.int64)), max_new_tokens=NEW, do_sample=False,
                use_cache=True, eos_token_id=None, return_dict_in_generate=True,
                output_logits=True,
            )  # fmt: skip
        assert spoken[row].tolist() == out.sequences[0, len(ids) :].tolist()
        expected = torch.cat(out.logits).numpy()
        np.testing.assert_allclose(logits[row, :NEW], expected, rtol=0, atol=1e-4)


class Stretched(oracle_decoder.Decoder):
    """The oracle with rotary positions that go by length: a prompt's, or up to each later token."""

    length = None

    def prompt(self, ids, slots, keep, prefer=oracle_decoder.by_score):
        self.length = int(slots[-1] - slots[0] + 1)
        answer = super().prompt(ids, slots, keep, prefer)
        self.length = None
        return answer

    def turn(self, x, position, rope):
        length = self.length or position + 1
        half, theta, factor = len(x) // 2, 50.0, 1.0
        divisors = np.ones(half)
        if rope.kind == "dynamic":
            over = max(length, ORIGINAL) / ORIGINAL
            theta *= (3.0 * over - 2.0) ** (half / (half - 1))
        else:
            divisors = LONGROPE["short_factor" if length <= ORIGINAL else "long_factor"]
            factor = np.sqrt(1 + np.log(64 / ORIGINAL) / np.log(ORIGINAL))
        speed = theta ** (-np.arange(half) / half) / divisors
        turned = factor * (x[:half] + 1j * x[half:]) * np.exp(1j * position * speed)
        return np.concatenate([turned.real, turned.imag])


@pytest.mark.parametrize("strategy", ["score", "recent"])
@by_length
def test_what_is_kept_of_a_prompt_is_turned_by_the_whole_prompts_length(kind, strategy):
    """Elimination in a padded batch equals deleting rows one text at a time, and so does what is
    read on. "recent" makes its queries of what is kept only."""
    model, params = make(kind)
    batch, slots, texts = padded_texts()
    prefer = {"score": oracle_decoder.by_score, "recent": oracle_decoder.by_recency}[strategy]
    plan = model.plan(0.9, batch["input_ids"].shape[1], strategy=strategy)
    ids_BS = tiny.continuation(NEW)
    out = latadj_jax.apply(model, params, batch, plan=plan)
    logits = latadj_jax.continuation_logits(model, params, batch, ids_BS, plan=plan)
    for row, (at, ids) in enumerate(zip(slots, texts, strict=True)):
        decoder = Stretched(model.config, params)
        answer = decoder.prompt(ids, at, tiny.kept_at(0.9), prefer)
        assert answer.margin > 1e-4
        kept = len(answer.slots)
        assert kept < len(ids)
        assert out.positions[row, :kept].tolist() == answer.slots
        np.testing.assert_allclose(out.hidden[row, :kept], answer.hidden, atol=1e-4)
        expected = decoder.continuation(answer, ids_BS[row], len(ids))
        np.testing.assert_allclose(logits[row], expected, atol=2e-4)


@by_length
def test_no_row_depends_on_its_padding_or_on_longer_rows(kind):
    """transformers' would: its frequencies go by the longest row."""
    model, params = make(kind)
    batch, _, texts = padded_texts()
    following = tiny.continuation(NEW)
    together = latadj_jax.continuation_logits(model, params, batch, following, 0.8)
    for row in (0, 3):
        prompt, after = {"input_ids": texts[row][None]}, following[row : row + 1]
        alone = latadj_jax.continuation_logits(model, params, prompt, after, 0.8)
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=5e-5)


@by_length
def test_reading_on_at_once_equals_one_by_one(kind):
    """So what pads a continuation, behind its end, changes nothing."""
    model, params = make(kind)
    batch, _, _ = padded_texts()
    following = tiny.continuation(NEW)
    at_once = latadj_jax.continuation_logits(model, params, batch, following)
    for n in (1, 6):  # the row of ten crosses its original length at the seventh
        so_far = latadj_jax.continuation_logits(model, params, batch, following[:, :n])
        np.testing.assert_allclose(at_once[:, : n + 1], so_far, rtol=0, atol=5e-5)


def test_a_stretched_model_reads_to_its_end_and_no_further():
    model, params = make("dynamic")
    ids = tiny.example(49, family="llama")["input_ids"][None]
    out = latadj_jax.apply(model, params, {"input_ids": ids[:, :48]})
    assert np.isfinite(out.logits).all()
    with pytest.raises(ValueError, match="49 tokens long, the model has 48 positions"):
        latadj_jax.apply(model, params, {"input_ids": ids})
