"""Buckets of distances: those of T5's checkpoints."""

import jax.numpy as jnp
import numpy as np
import pytest

from latadj_jax.layers.relative_bias import RelativeBias, buckets


def test_near_distances_have_buckets_of_their_own_and_far_ones_share():
    got = buckets(np.array([-200, -128, -9, -8, -1, 0, 1, 7, 8, 127, 128, 5000]), 32, 128, True)
    assert got.tolist() == [15, 15, 8, 8, 1, 0, 17, 23, 24, 31, 31, 31]


def test_a_decoder_looks_back_only():
    got = buckets(np.array([-500, -16, -15, -1, 0, 1, 9]), 32, 128, False)
    assert got.tolist() == [31, 16, 15, 1, 0, 0, 0]


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 16), (20, 50)])
def test_every_distance_has_the_bucket_that_transformers_gives_it(
    both_ways, num_buckets, max_distance
):
    """At the edges of buckets float32 rounding decides."""
    torch = pytest.importorskip("torch")
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-1100, 1100)
    theirs = T5Attention._relative_position_bucket(
        torch.from_numpy(distances), both_ways, num_buckets, max_distance
    )
    got = buckets(distances, num_buckets, max_distance, both_ways)
    np.testing.assert_array_equal(got, theirs.numpy())


def test_the_bias_follows_the_original_positions():
    module = RelativeBias(8, 16, 3, True, jnp.float32)
    embedding_NH = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    positions_BI = jnp.array([[0, 2, 9000], [1, 5, -1]], jnp.int32)
    bias_BHIJ = module.apply({"params": {"embedding": embedding_NH}}, positions_BI, positions_BI)
    for row, col, key in ((0, 0, 2), (0, 2, 1), (0, 0, 1), (1, 1, 0)):
        distance = positions_BI[row, key] - positions_BI[row, col]
        expected = embedding_NH[buckets(np.array([distance]), 8, 16, True)[0]]
        np.testing.assert_array_equal(bias_BHIJ[row, :, col, key], expected)
