import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latadj_jax.data.encoded import Encoded, collate, group
from latadj_jax.model.buckets import bucket_of, default_buckets, pad
from latadj_jax.model.inputs import cast_inputs, check_inputs

RANGES = {"input_ids": tiny.VOCAB, "token_type_ids": 2}


@hypothesis.given(st.integers(1, 5000))
def test_default_buckets_rise_to_the_longest_input_and_waste_little(max_length):
    """Fails where a length of at least 16 would be padded by half its own length, or more."""
    buckets = default_buckets(max_length)
    assert buckets[-1] == max_length
    assert list(buckets) == sorted(set(buckets))
    assert all(b < 1.51 * a for a, b in itertools.pairwise(buckets))
    assert buckets[0] <= 16


def test_default_buckets_by_hand():
    assert default_buckets(100) == (16, 24, 32, 48, 64, 96, 100)
    assert default_buckets(128) == (16, 24, 32, 48, 64, 96, 128)
    assert default_buckets(10) == (10,)


@pytest.mark.parametrize(("length", "bucket"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 40)])
def test_bucket_is_the_smallest_that_holds_the_input(length, bucket):
    assert bucket_of(length, (40, 8, 16)) == bucket


def test_an_input_longer_than_all_buckets_is_refused():
    with pytest.raises(ValueError, match=r"41 tokens.*largest is 40.*truncate"):
        bucket_of(41, (8, 40))


def test_pad_fills_up_on_the_right():
    batch = pad([{"input_ids": [5, 6, 7], "token_type_ids": [0, 1, 1]},
                 {"input_ids": [8], "token_type_ids": [1]}], 4)  # fmt: skip
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "at least one example"),
        ([{"input_ids": [1] * 5}], "example 0 has 5 tokens.*1 to 4"),
        ([{"input_ids": [1]}, {"input_ids": []}], "example 1 has 0 tokens"),
    ],
)
def test_pad_refuses_what_does_not_fit(examples, message):
    with pytest.raises(ValueError, match=message):
        pad(examples, 4)


@hypothesis.given(
    st.lists(st.integers(1, 40), max_size=50), st.integers(1, 8), st.none() | st.integers(0, 9)
)
def test_group_takes_every_example_once_in_a_bucket_that_holds_it(lengths, batch_size, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    batches = group(lengths, (8, 16, 40), batch_size, rng)
    taken = [int(i) for indices, _ in batches for i in indices]
    assert sorted(taken) == list(range(len(lengths)))
    short = [indices for indices, _ in batches if len(indices) != batch_size]
    assert len(short) == (len(lengths) % batch_size > 0)
    for indices, bucket in batches:
        # The smallest bucket for its longest member, so no batch is padded for nothing.
        assert bucket == bucket_of(max(lengths[i] for i in indices), (8, 16, 40))


def test_group_keeps_full_batches_in_their_own_bucket():
    """Fails where a short example pays for a long one though enough others are short."""
    batches = group([3, 30, 4, 31, 5, 32, 6], (8, 40), 2)
    indices, buckets = zip(*((i.tolist(), bucket) for i, bucket in batches), strict=True)
    assert indices == ([0, 2], [4, 6], [1, 3], [5])
    assert buckets == (8, 8, 40, 40)


def test_group_is_shuffled_by_its_generator_alone():
    lengths = [5] * 40
    orders = [
        [int(i) for part, _ in group(lengths, (8,), 4, np.random.default_rng(s)) for i in part]
        for s in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(40))


def test_collate_gives_a_short_batch_full_shape_at_no_weight():
    examples = [tiny.example(n) for n in (3, 5, 2)]
    labels = np.array([7, 8, 9])
    batch = collate(Encoded(examples, labels), np.array([2, 1]), bucket=6, batch_size=4)
    assert batch["weights"].tolist() == [1, 1, 0, 0]
    assert batch["labels"].tolist()[:2] == [9, 8]
    assert batch["input_ids"].shape == (4, 6)
    np.testing.assert_array_equal(batch["input_ids"][1, :5], examples[1]["input_ids"])
    assert batch["attention_mask"].any(axis=1).all()


def check(max_positions=40, **batch):
    check_inputs(batch, RANGES, max_positions)
    return cast_inputs(batch, RANGES)


def test_inputs_become_int32_and_a_bool_mask():
    ids = np.array([[1, 2, 3]], np.int64)
    inputs = check(input_ids=ids, attention_mask=np.array([[1.0, 1.0, 0.0]]))
    assert inputs["input_ids"].dtype == np.int32
    assert inputs["attention_mask"].tolist() == [[True, True, False]]
    assert check(input_ids=ids)["attention_mask"].tolist() == [[True, True, True]]
    assert "token_type_ids" not in inputs


def test_labels_and_weights_may_travel_along_but_stay_outside():
    inputs = check(input_ids=np.ones((2, 3), int), labels=np.ones(2), weights=np.ones(2))
    assert set(inputs) == {"input_ids", "attention_mask"}


ids = np.ones((2, 4), np.int32)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "input_ids"),
        ({"input_ids": ids, "inputs": ids}, "unknown key 'inputs'"),
        ({"input_ids": np.ones(4, int)}, r"\[B, T\].*\[4\]"),
        ({"input_ids": np.ones((0, 4), int)}, r"at least 1.*\[0, 4\]"),
        ({"input_ids": np.ones((2, 0), int)}, r"at least 1.*\[2, 0\]"),
        ({"input_ids": np.ones((1, 41), int)}, "41 tokens.*40 positions.*truncate"),
        ({"input_ids": ids.astype(float)}, "input_ids must be integers"),
        ({"input_ids": ids * tiny.VOCAB}, "input_ids holds 100.*0..99"),
        ({"input_ids": ids * -1}, "input_ids holds -1"),
        ({"input_ids": ids, "token_type_ids": ids * 2}, "token_type_ids holds 2.*0..1"),
        ({"input_ids": ids, "token_type_ids": ids[:1]}, r"token_type_ids.*\[2, 4\].*\[1, 4\]"),
        ({"input_ids": ids, "attention_mask": ids[:, :3]}, r"attention_mask.*\[2, 4\].*\[2, 3\]"),
        ({"input_ids": ids, "attention_mask": ids * [[1], [0]]}, "no valid token in row 1"),
    ],
)
def test_bad_inputs_are_refused_by_name(batch, message):
    with pytest.raises(ValueError, match=message):
        check(**batch)


def test_traced_inputs_are_checked_by_shape_only():
    """Values are not known under jit: looking at them would fail to trace."""
    mask = np.ones((2, 4), int)
    out = jax.jit(lambda i, m: check(input_ids=i, attention_mask=m))(ids * 1000, mask)
    assert out["attention_mask"].all()
    with pytest.raises(ValueError, match="shape of input_ids"):
        jax.jit(lambda i, m: check(input_ids=i, attention_mask=m))(ids, mask[:, :2])


def test_arrays_closed_over_by_a_traced_function_are_checked_by_value():
    """They are not traced: a gradient by the parameters alone has its batch so."""
    batch = {"input_ids": jnp.asarray(ids), "attention_mask": jnp.ones_like(ids)}
    assert jax.jit(lambda: check(**batch))()["attention_mask"].all()
    strange = {**batch, "input_ids": batch["input_ids"] - 1000}
    with pytest.raises(ValueError, match="holds"):
        jax.jit(lambda: check(**strange))()


def test_a_mask_of_other_values_is_refused():
    """An additive mask (0 and -1e9) would otherwise keep just what it hides."""
    with pytest.raises(ValueError, match="1 for tokens and 0 for padding"):
        check(input_ids=np.ones((1, 3), int), attention_mask=np.array([[0.0, 0.0, -1e9]]))
