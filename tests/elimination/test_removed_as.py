"""How removed tokens are read: as they were when they left, or as what they were merged into."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny

import latadj_jax
from latadj_jax.elimination.merging import Groups, group_removed

# ---- whose part each token is -------------------------------------------------------------------


def test_owners_follow_what_was_merged_before():
    """Six tokens, of which 1 is part of 3 already; now 3 goes into 4, and 5 into nothing.

    Fails where tokens stay with what took them first, or those of nobody are moved.
    """
    keep_BK, gone_BR = (
        jnp.array([[0, 2, 3]]),
        jnp.array([[1, 4, 5]]),
    )  # slots of positions 0 2 3 4 5
    into_BKR = jnp.zeros((1, 3, 3), bool).at[0, 2, 0].set(True)  # slot 1 into slot 3
    positions_BL = jnp.array([[0, 3, 2, 4, 5]], jnp.int32)
    groups = Groups(keep_BK, gone_BR, into_BKR, jnp.ones((1, 5)), jnp.ones((1, 3)))
    owners_BT = jnp.array([[0, 3, 2, 3, 4, 5]], jnp.int32)
    assert groups.owners(owners_BT, positions_BL).tolist() == [[0, 4, 2, 4, 4, 5]]


def test_owners_are_those_of_a_list_of_groups():
    """Three cuts after one another, against a dict that says of each token where it went."""
    rng = np.random.default_rng(0)
    length, width = 12, 4
    positions = np.arange(length)
    owners_BT = jnp.arange(length, dtype=jnp.int32)[None]
    expected = {token: token for token in range(length)}
    for size in (8, 5, 2):
        keys = rng.normal(size=(1, len(positions), width)).astype(np.float32)
        keep = np.sort(np.append(rng.permutation(np.arange(1, len(positions)))[: size - 1], 0))
        groups = group_removed(
            jnp.asarray(keys), jnp.asarray(keep[None], jnp.int32),
            jnp.ones((1, len(positions)), bool),
            jnp.arange(len(positions))[None] == 0, jnp.ones((1, len(positions))),
            len(positions) - size,
        )  # fmt: skip
        owners_BT = groups.owners(owners_BT, jnp.asarray(positions[None], jnp.int32))
        for slot in set(range(len(positions))) - set(keep.tolist()):
            receivers = [k for k in keep if k != 0]  # the first is protected and receives nothing
            alike = [keys[0, k] @ keys[0, slot] / np.linalg.norm(keys[0, k]) for k in receivers]
            gone, into = positions[slot], positions[receivers[int(np.argmax(alike))]]
            expected = {t: into if of == gone else of for t, of in expected.items()}
        positions = positions[keep]
        assert owners_BT[0].tolist() == list(expected.values())


# ---- a whole pass -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["merge", "score"])
@pytest.mark.parametrize("removed_as", ["left", "joined"])
def test_each_token_is_read_as_the_plan_says(removed_as, strategy):
    """Against the oracle, with padding on every side; what is forgotten can only be as it left."""
    model, params = tiny.make("bert")
    batch, slots = tiny.mixed_batch()
    plan = model.plan(0.9, 16, strategy=strategy, removed_as=removed_as)
    hidden = np.asarray(latadj_jax.apply(model, params, batch, plan=plan, restore=True).hidden)
    moved = 0
    for row, at in enumerate(slots):
        ids, types = batch["input_ids"][row, at], batch["token_type_ids"][row, at]
        keep = tiny.kept_at(0.9)
        answer = oracle.run(model.config, params, ids, types, at, keep, merge=strategy == "merge")
        assert answer.margin > 1e-4
        for slot in at:
            read = answer.owners[slot] if removed_as == "joined" else slot
            moved += read != slot
            np.testing.assert_allclose(hidden[row, slot], answer.restored[read], atol=3e-5)
        np.testing.assert_array_equal(hidden[row, np.setdiff1d(np.arange(16), at)], 0)
    assert (moved > 10) == (removed_as == "joined" and strategy == "merge")


def test_dense_and_a_plan_that_keeps_all_are_the_same_either_way():
    model, params = tiny.make("bert", "token-classification", num_hidden_layers=1)
    batch, _ = tiny.mixed_batch()
    model = model.replace(strategy="merge")
    dense = latadj_jax.apply(model, params, batch).logits
    for removed_as in ("left", "joined"):
        kept = latadj_jax.apply(model.replace(removed_as=removed_as), params, batch, 5.0).logits
        np.testing.assert_array_equal(kept, dense)
    with pytest.raises(ValueError, match="removed_as must be one of left, joined; it is 'gone'"):
        model.replace(removed_as="gone")
