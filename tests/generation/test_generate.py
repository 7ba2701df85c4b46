"""Text after a prompt: the tokens of transformers' `generate`, ends of rows, and one program."""

import functools
import json

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import NamedSharding, PartitionSpec

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.pretrained.tokenizers import load_tokenizer

VOCAB = tiny.VOCAB
LENGTHS = (12, 5, 9)
each_family = pytest.mark.parametrize("family", tiny.CAUSAL)


def make(family, layers=2):
    return tiny.make(family, "lm", num_hidden_layers=layers, max_position_embeddings=96)


def examples_of(family="gpt2"):
    return [tiny.example(n, seed, family) for seed, n in enumerate(LENGTHS)]


def prompts(padding="left", length=12):
    return tiny.padded(examples_of(), padding, length)[0]


def generate(family="gpt2", alpha=0.8, max_new_tokens=10, *, batch=None, **options):
    """Greedy tokens of a model without an end-of-sequence id, unless `options` say other."""
    model, params = make(family)
    batch = prompts() if batch is None else batch
    tokens = latadj_jax.generate(model, params, batch, alpha, max_new_tokens, **options)
    assert tokens.dtype == np.int32
    assert tokens.shape == (len(batch["input_ids"]), max_new_tokens)
    return np.asarray(tokens)


# Which tokens.


@each_family
def test_greedy_tokens_equal_those_of_transformers(family, tmp_path):
    """Prompts of three lengths; a key or a position that is off by one shows within 50 tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params = make(family)
    latadj_jax.save_pretrained(tmp_path / "model", model, params)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    theirs.generation_config.eos_token_id = None
    batch = {key: torch.from_numpy(value.astype(np.int64)) for key, value in prompts().items()}
    expected = theirs.generate(**batch, max_new_tokens=50, do_sample=False, pad_token_id=0)
    tokens = generate(family, None, 50, stop_tokens=())
    np.testing.assert_array_equal(tokens, expected[:, 12:].numpy())
    # Not one token over and over; Gemma's embeddings are large, and its head is tied to them.
    assert len(set(tokens.ravel().tolist())) > (3 if family == "gemma3_text" else 15)


@pytest.mark.parametrize(("family", "alpha"), [("gpt2", None), ("gpt2", 0.8), ("llama", 0.8)])
def test_each_token_is_the_most_likely_after_those_before_it(family, alpha):
    """The loop over growing caches and one pass over the whole continuation are the same."""
    model, params = make(family)
    tokens = generate(family, alpha)
    logits = latadj_jax.continuation_logits(model, params, prompts(), tokens[:, :-1], alpha)
    best = np.sort(logits, axis=-1)
    assert (best[..., -1] - best[..., -2]).min() > 1e-4  # no tie that rounding could decide
    np.testing.assert_array_equal(tokens, np.argmax(logits, axis=-1))
    assert len(set(tokens.ravel().tolist())) > 8


@each_family
def test_tokens_do_not_depend_on_padding_bucket_or_companions(family):
    tokens = generate(family)
    np.testing.assert_array_equal(generate(family, batch=prompts("right", 16)), tokens)
    examples = examples_of()
    batch, _ = tiny.padded([examples[2], examples[1]], "both sides", 20)
    others = generate(family, 0.8, 16, batch=batch)
    np.testing.assert_array_equal(others[:, :10], tokens[[2, 1]])


def test_a_plan_or_padded_counts_are_not_stretched_to_a_bucket():
    """Both speak of the length that was given: 12, where the bucket would be 16."""
    model, params = make("gpt2")
    batch, plan = prompts(), model.plan(0.8, 12, count="padded")
    assert plan.counts != model.plan(0.8, 16).counts
    padded = generate(count="padded")
    np.testing.assert_array_equal(generate(alpha=None, plan=plan), padded)
    logits = latadj_jax.continuation_logits(model, params, batch, padded[:, :-1], plan=plan)
    np.testing.assert_array_equal(padded, np.argmax(logits, axis=-1))


def test_buckets_can_be_chosen():
    np.testing.assert_array_equal(generate(buckets=(13, 40)), generate())
    with pytest.raises(ValueError, match="12 tokens fits no bucket: the largest is 10"):
        generate(buckets=(5, 10))


# Where a row ends.


@functools.cache
def endless():
    """Greedy tokens with nothing to stop them."""
    return generate(stop_tokens=())


def ended(tokens, stops, pad):
    """`tokens` with each row padded after the first of `stops`, which stays."""
    result = tokens.copy()
    for row in result:
        at = [n for n, token in enumerate(row) if token in stops]
        if at:
            row[at[0] + 1 :] = pad
    return result


def some_stops():
    """Two tokens that end two of the rows at different places, and leave one alone."""
    tokens = endless()
    stops = [int(tokens[0, 6]), int(tokens[1, 3])]
    lengths = (ended(tokens, stops, -1) >= 0).sum(axis=1)
    assert lengths.tolist() == [7, 4, 10]
    return stops


def test_a_row_ends_with_its_stop_token_and_is_padded_after_it():
    stops = some_stops()
    got = generate(stop_tokens=stops, pad_token=99)
    np.testing.assert_array_equal(got, ended(endless(), stops, 99))


@pytest.mark.parametrize("number", [8, 9])
def test_any_number_of_stop_tokens_will_do(number):
    stops = some_stops()
    got = generate(stop_tokens=[*stops, *[stops[0]] * (number - 2)], pad_token=3)
    np.testing.assert_array_equal(got, ended(endless(), stops, 3))


def test_all_rows_can_end_before_the_last_step():
    stops = endless()[:, 2].tolist()
    got = generate(stop_tokens=stops, pad_token=1)
    np.testing.assert_array_equal(got, ended(endless(), stops, 1))
    assert (got[:, 3:] == 1).all()


def made_with(**ids):
    """`make` of GPT-2 whose config.json has these, too."""
    model, params = make("gpt2")
    hf = {**json.loads(model.config.hf), **ids}
    return model.replace(config=config_from_hf(hf)), params


def test_models_that_differ_in_their_end_alone_are_two_to_a_cache():
    """The user's own jit, too, compiles one program for each."""
    speak = jax.jit(latadj_jax.generate, static_argnames=("model", "alpha", "max_new_tokens"))
    stop = some_stops()[0]
    for ids, expected in (((), endless()), (stop, ended(endless(), [stop], stop))):
        model, params = made_with(eos_token_id=ids or None, pad_token_id=None)
        got = speak(model, params, prompts(), 0.8, 10)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("form", ["one id", "a list", "with one outside of the vocabulary"])
def test_the_models_own_end_of_sequence_stops_by_default(form):
    """GPT-2's config says 50256 even where the vocabulary is smaller; -1 is some configs' none."""
    stops = some_stops()
    ids = {"one id": stops[0], "a list": stops}.get(form, [50256, -1, *stops])
    model, params = made_with(eos_token_id=ids, pad_token_id=98)
    expected = ended(endless(), [stops[0]] if form == "one id" else stops, 98)
    got = latadj_jax.generate(model, params, prompts(), 0.8, 10)
    np.testing.assert_array_equal(got, expected)
    unstopped = latadj_jax.generate(model, params, prompts(), 0.8, 10, stop_tokens=())
    np.testing.assert_array_equal(unstopped, endless())


@pytest.mark.parametrize("pad", [None, -1, 50256])
def test_without_a_pad_token_a_row_is_filled_with_its_stop_token(pad):
    """Llama's first configs say -1 for none."""
    stops = some_stops()
    model, params = made_with(pad_token_id=pad)
    got = latadj_jax.generate(model, params, prompts(), 0.8, 10, stop_tokens=stops)
    np.testing.assert_array_equal(got, ended(endless(), stops, stops[0]))


def test_one_new_token_needs_no_loop():
    np.testing.assert_array_equal(generate(max_new_tokens=1), endless()[:, :1])


# One at a time.


@each_family
def test_the_last_token_needs_no_position(family):
    """12 tokens and 84 that are read again fill 96 positions; the 85th is read by nobody."""
    tokens = generate(family, None, 85, stop_tokens=())
    model, params = make(family)
    logits = latadj_jax.continuation_logits(model, params, prompts(), tokens[:, :-1])
    np.testing.assert_array_equal(tokens[:, -1], np.argmax(logits[:, -1], axis=-1))


def test_stream_gives_the_columns_of_generate():
    model, params = make("gpt2")
    columns = list(latadj_jax.stream(model, params, prompts(), 0.8, 10, stop_tokens=()))
    assert all(isinstance(column, np.ndarray) for column in columns)
    np.testing.assert_array_equal(np.stack(columns, axis=1), endless())
    stops, tokens = some_stops(), endless()
    columns = list(latadj_jax.stream(model, params, prompts(), 0.8, 10, stop_tokens=stops))
    np.testing.assert_array_equal(np.stack(columns, axis=1), ended(tokens, stops, 0))
    everything = tokens[:, 2].tolist()
    columns = list(latadj_jax.stream(model, params, prompts(), 0.8, 10, stop_tokens=everything))
    expected = ended(tokens, everything, 0)[:, : len(columns)]
    np.testing.assert_array_equal(np.stack(columns, axis=1), expected)
    assert len(columns) == 3  # it ends when every row has


def test_stream_draws_what_generate_draws():
    model, params = make("gpt2")
    options = {"temperature": 1.0, "key": jax.random.key(5)}
    columns = list(latadj_jax.stream(model, params, prompts(), 0.8, 10, **options))
    np.testing.assert_array_equal(np.stack(columns, axis=1), generate(**options))


# Drawn tokens.


def test_drawn_tokens_follow_their_key_and_stay_among_the_best():
    """Fails where a token is drawn from the logits of another row or step."""
    model, params = make("gpt2")

    def drawn(seed, **options):
        return generate(temperature=2.0, top_k=3, key=jax.random.key(seed), **options)

    tokens = drawn(0)
    np.testing.assert_array_equal(tokens, drawn(0))
    assert not np.array_equal(tokens, drawn(1))
    logits = latadj_jax.continuation_logits(model, params, prompts(), tokens[:, :-1], 0.8)
    ranks = (logits > np.take_along_axis(np.asarray(logits), tokens[..., None], 2)).sum(axis=2)
    assert ranks.max() == 2
    assert (ranks == 0).any()
    np.testing.assert_array_equal(generate(temperature=1.0, top_k=1, key=jax.random.key(0)),
                                  endless())  # fmt: skip


def test_a_rows_draws_do_not_depend_on_its_companions():
    options = {"temperature": 1.0, "key": jax.random.key(0)}
    batch = prompts()
    other = {**batch, "input_ids": batch["input_ids"].copy()}
    other["input_ids"][1:] = 1 + (other["input_ids"][1:] + 5) % (VOCAB - 1)
    first, second = generate(**options), generate(batch=other, **options)
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[1:], second[1:])


# Static shapes.


def test_one_compilation_per_buckets_batch_and_alpha(count_compilations):
    """Lengths, numbers of new tokens, stop tokens, ids and temperatures are no reason for more."""
    model, params = make("gpt2", layers=1)

    def call(length, new, number=2, alpha=0.8, stops=(), **options):
        ids = np.random.default_rng(length).integers(1, VOCAB, (number, length)).astype(np.int32)
        mask = np.arange(length) < [[length]] + [[length - 1]] * (number - 1)
        batch = {"input_ids": ids, "attention_mask": mask}
        return latadj_jax.generate(model, params, batch, alpha, new, stop_tokens=stops, **options)

    def compiled(*args, **options):
        before = count_compilations()
        call(*args, **options)
        return count_compilations() - before

    key = jax.random.key(0)
    assert compiled(10, 12) > 0
    assert compiled(10, 12, stops=(5, 6, 7)) == 0
    assert compiled(9, 12) == compiled(16, 12) == 0, "another length in the bucket"
    assert compiled(10, 11) == compiled(10, 16) == compiled(10, 1) == 0, "fewer new tokens"
    assert compiled(10, 12, temperature=0.7, key=key) > 0  # not greedy: another program
    assert compiled(10, 12, temperature=0.9, key=jax.random.key(1)) == 0
    for other in ((17, 12), (10, 17), (10, 12, 3), (10, 12, 2, 0.6)):
        assert compiled(*other) > 0
        assert compiled(*other) == 0


def test_a_stream_compiles_nothing_while_it_runs(count_compilations):
    model, params = make("gpt2", layers=1)
    compiled = []
    for _ in latadj_jax.stream(model, params, prompts(), 0.8, 8, stop_tokens=()):
        compiled.append(count_compilations())
    assert compiled[-1] == compiled[1]


def test_both_functions_can_be_traced():
    """Nothing in them looks at the values of tokens, masks or parameters."""
    model, params = make("gpt2", layers=1)

    def both(params, batch):
        tokens = latadj_jax.generate(model, params, batch, 0.8, 10, stop_tokens=(5,))
        logits = latadj_jax.continuation_logits(model, params, batch, tokens, 0.8)
        return tokens, logits

    tokens, logits = jax.eval_shape(both, params, prompts())
    assert tokens.shape == (3, 10)
    assert logits.shape == (3, 11, VOCAB)


def test_a_real_llama_speaks_as_transformers_lets_it_speak(tmp_path):
    """SmolLM2 from its GGUF file (test_gguf.py compares the weights): logits, 50 greedy tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    file = pytest.importorskip("tiny_gguf").smollm2()
    model, params = latadj_jax.from_pretrained(file)
    latadj_jax.save_pretrained(tmp_path, model, params)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    theirs.generation_config.eos_token_id = None
    text = "The capital of France is Paris, and the capital of Italy is"
    ids = load_tokenizer(str(file))(text, return_tensors="np")["input_ids"]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()
        spoken = theirs.generate(torch.from_numpy(ids), max_new_tokens=50, do_sample=False)
    logits = latadj_jax.apply(model, params, {"input_ids": ids}).logits
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3)
    tokens = latadj_jax.generate(
        model, params, {"input_ids": ids}, None, 50, stop_tokens=(), buckets=ids.shape[1:]
    )
    np.testing.assert_array_equal(tokens, spoken[:, ids.shape[1] :].numpy())


def test_prompts_that_are_spread_over_devices_stay_spread():
    model, params = make("gpt2")
    batch = {key: np.concatenate([value, value])[:4] for key, value in prompts().items()}
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    spread = latadj_jax.generate(
        model, jax.device_put(params, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(batch, rows), 0.8, 5,
    )  # fmt: skip
    assert spread.sharding.is_equivalent_to(rows, 2)
    np.testing.assert_array_equal(spread, latadj_jax.generate(model, params, batch, 0.8, 5))
