"""What word-vectors are ranked by, against loops over lists."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from paths import ROOT
from tolerance import SAME

import latadj_jax
from latadj_jax import make_plan
from latadj_jax.elimination import ranks, strategies
from latadj_jax.elimination.ranks import recent, unlike_neighbours, with_recent
from latadj_jax.elimination.strategies import RECALL, SCORE, Strategy, find


def positions_of(*lengths, size):
    """Rows of 0..n-1, then empty slots."""
    return jnp.array([[*range(n), *[-1] * (size - n)] for n in lengths], jnp.int32)


def best(ranking, count):
    """Slots of the highest, of equals the earlier one; as `select` does without protection."""
    return [sorted(np.argsort(-row, kind="stable")[:count].tolist()) for row in np.asarray(ranking)]


def test_what_is_no_strategy_is_one_sentence():
    with pytest.raises(ValueError, match=r"strategy must be one of score, recent, .*'best'"):
        find("best")


def test_a_strategy_says_by_its_parameters_what_it_needs():
    needs = {name: strategy.needs for name, strategy in strategies.STRATEGIES.items()}
    assert needs["score"] == needs["merge"] == {"scores_BL"}
    assert needs["random"] == {"positions_BL", "key"}
    assert needs["window"] == {"asked_BL", "positions_BL", "count_B"}


def test_of_two_alike_the_less_attended_goes():
    """Against a loop; fails where an empty slot, or a worse one, counts as what one is like."""
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(2, 7, 5)).astype(np.float32)
    keys[0, 2], keys[1, 0] = 2 * keys[0, 5], keys[1, 3]
    scores = rng.uniform(size=(2, 7)).astype(np.float32)
    scores[0, 5], scores[1, 0] = 2.0, scores[1, 3]
    positions = positions_of(7, 5, size=7)
    ranking = np.asarray(ranks.distinct(keys, scores, positions))
    unit = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    for row, n in enumerate((7, 5)):
        for j in range(n):
            better = [
                i for i in range(n) if (scores[row, i], -i) > (scores[row, j], -j)
            ]  # of equals the earlier is the better
            expected = -max((unit[row, i] @ unit[row, j] for i in better), default=-1.0)
            assert ranking[row, j] == pytest.approx(expected, abs=1e-5)
    assert ranking[0, 2] == pytest.approx(-1.0)
    assert ranking[1, 3] == pytest.approx(-1.0)
    assert ranking[0, 5] == ranking[0].max() == 1.0


@pytest.fixture
def pluggable(monkeypatch):
    """The registry, which is as before after the test."""
    monkeypatch.setattr(strategies, "STRATEGIES", dict(strategies.STRATEGIES))


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f != "t5"])
def test_a_strategy_of_ones_own_plugs_in_and_sees_what_it_asks_for(family, pluggable):
    """Even token ids stay, the larger the better; nothing else is touched."""

    def even(ids_BL, x_BLD, keys_BLE, scores_BL, positions_BL, count_B):
        assert ids_BL.shape == scores_BL.shape == positions_BL.shape == x_BLD.shape[:2]
        assert keys_BLE.shape[:2] == ids_BL.shape
        assert count_B.shape == ids_BL.shape[:1]
        return jnp.where(ids_BL % 2 == 0, ids_BL, -ids_BL)

    own = strategies.register(Strategy(f"even {family}", even))
    model, params = tiny.make(family, "classification")
    model = model.replace(strategy=own.name, profile=latadj_jax.Profile((0.75, 0.75, 0.75)))
    ids = np.array([[5, 12, 9, 30, 4, 7, 8, 3, 2, 11, 6, 1]], np.int32)
    out = latadj_jax.apply(model, params, {"input_ids": ids}, 1.0)
    kept = ids[0][np.asarray(out.positions[0])].tolist()
    protected = 1 if model.family.causal else 5  # the last token, or CLS
    expected = {30, 12, 8, protected}  # of 12, 9, 6, 4
    assert set(kept) == expected


def test_a_name_stands_for_one_strategy(pluggable):
    assert strategies.register(SCORE) is SCORE
    with pytest.raises(ValueError, match="there is a strategy 'score' already"):
        strategies.register(Strategy("score", lambda positions_BL: positions_BL))


def test_the_strategy_of_the_docs_plugs_in_and_removes_separators_last(pluggable):
    """The code of docs/extending.md, run as it stands there."""
    page = (ROOT / "docs" / "extending.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import" in b]
    names = {}
    exec(compile(block, "docs/extending.md", "exec"), names)
    assert names["plan"].strategy == "separators last"
    rank = find("separators last").rank
    ranking = rank(jnp.array([[5, 102, 9, 7]]), jnp.array([[0.9, 0.0, 0.4, 0.5]]))
    assert best(ranking, 2) == [[0, 1]]


def test_recent_keeps_the_first_four_and_then_the_last_ones():
    ranking = recent(positions_of(10, size=10))
    assert best(ranking, 6) == [[0, 1, 2, 3, 8, 9]]
    assert best(ranking, 3) == [[0, 1, 2]]


def test_recency_counts_positions_not_slots():
    """After an earlier cut the first four may be gone: then nothing stands in for them."""
    ranking = recent(jnp.array([[0, 2, 7, 9, 11, -1]]))
    assert best(ranking, 3) == [[0, 1, 4]]


def test_three_quarters_of_what_is_kept_are_recent_and_the_rest_follows_the_ranking():
    """Row 0 keeps 18 of 20: 13 recent, the first four, and the best of the others. In row 1 the
    first four and four recent would be more than 6: of the recent the last stay."""
    ranking = np.zeros((2, 20), np.float32)
    ranking[:, [5, 6, 7, 8]] = 4, 7, 6, 5
    above = with_recent(jnp.asarray(ranking), positions_of(20, 8, size=20), jnp.array([18, 6]))
    assert best(above, 18)[0] == [0, 1, 2, 3, 6, *range(7, 20)]
    assert best(above, 6)[1] == [0, 1, 2, 3, 6, 7]


def test_recent_ones_are_told_apart_at_long_lengths():
    """Fails where a position drowns in float32."""
    above = with_recent(jnp.zeros((1, 2**17)), jnp.arange(2**17)[None], jnp.array([100]))
    assert best(above, 54)[0][4:] == list(range(2**17 - 50, 2**17))


def novelty_by_loops(rows):
    """Mean over five neighbours of minus the cosines with the ones before and after."""
    unit = [row / np.linalg.norm(row) for row in rows]
    alike = []
    for j in range(len(rows)):
        before = unit[j] @ unit[j - 1] if j else -1.0
        after = unit[j] @ unit[j + 1] if j + 1 < len(rows) else -1.0
        alike.append(before + after)
    return [-np.mean(alike[max(0, j - 2) : j + 3]) for j in range(len(rows))]


def test_novelty_is_how_little_a_word_vector_resembles_its_neighbours():
    """Fails where padding is a neighbour, or the average is over slots instead of word-vectors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 4)).astype(np.float32)
    valid = np.asarray(positions_of(9, 6, size=9)) >= 0
    got = np.asarray(unlike_neighbours(jnp.asarray(x), jnp.asarray(valid)))
    for row, length in enumerate((9, 6)):
        expected = novelty_by_loops(x[row, :length].astype(np.float64))
        np.testing.assert_allclose(got[row, :length], expected, atol=1e-6)


def test_recall_asks_novelty_below_and_attention_above():
    assert [RECALL.at(n, 10).name for n in range(10)] == ["novelty"] * 6 + ["window"] * 4
    assert SCORE.at(9, 10) is SCORE


@pytest.mark.parametrize("family", tiny.CAUSAL)
@pytest.mark.parametrize("strategy", ["window", "novelty", "recall", "recent"])
def test_no_padding_companion_or_later_token_changes_what_is_kept(family, strategy):
    """Padded left, right, and longer; the kept positions are those of the example alone.

    Two layers, a cut before and after the second; three where "recall" asks for two rankings.
    """
    layers = 3 if strategy == "recall" else 2
    model, params = tiny.make(family, "lm", num_hidden_layers=layers)
    model = model.replace(strategy=strategy)
    examples = [tiny.example(n, n, family) for n in (14, 9, 20)]

    def run(batch):
        return jax.tree.map(np.asarray, latadj_jax.apply(model, params, batch, 0.8))

    alone = [run({"input_ids": e["input_ids"][None]}) for e in examples]
    for padding in ("left", "right"):
        batch, slots = tiny.padded(examples, padding, 24)
        out = run(batch)
        for row, (single, at) in enumerate(zip(alone, slots, strict=True)):
            kept, expected = out.positions[row], single.positions[0]
            assert kept[kept >= 0].tolist() == (expected + at[0]).tolist()
            np.testing.assert_allclose(out.hidden[row][kept >= 0], single.hidden[0], **SAME)


def test_strategies_of_prompts_are_not_for_encoders():
    model, params = tiny.make("bert")
    ids = np.ones((1, 8), np.int32)
    plan = make_plan(tiny.PROFILE, 0.8, 8, strategy="recall")
    for call in (
        lambda: model.replace(strategy="recall"),
        lambda: model.plan(0.8, 8, strategy="window"),
        lambda: latadj_jax.apply(model, params, {"input_ids": ids}, plan=plan),
    ):
        with pytest.raises(ValueError, match="is for other models; bert has: score, tail, random"):
            call()


def test_the_artefact_carries_its_strategy(tmp_path):
    """Promise 6: loading needs nothing else to prune as before."""
    model, params = tiny.make("llama", "lm")
    model = model.replace(strategy="recall", alpha=0.8)
    latadj_jax.save_pretrained(tmp_path, model, params)
    loaded, _ = latadj_jax.from_pretrained(tmp_path)
    assert (loaded.strategy, loaded.plan(0.8, 16).strategy) == ("recall", "recall")


def test_removed_queries_are_never_computed():
    """ "recall" and "recent" cut before Q K^T: fewer FLOPs than the same cut by score."""
    model, params = tiny.make("llama", "lm", num_hidden_layers=1)

    def flops(strategy):
        plan = make_plan(latadj_jax.Profile((0.25,)), 1.0, 32, strategy=strategy)
        apply = jax.jit(latadj_jax.apply, static_argnames=("model", "plan"))
        ids = jnp.ones((1, 32), jnp.int32)
        return (
            apply.lower(model, params, {"input_ids": ids}, plan=plan)
            .compile()
            .cost_analysis()["flops"]
        )

    assert flops("recent") < flops("score")
    assert flops("novelty") < flops("score")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs either rank or by_layer"),
        ({"rank": ranks.score, "by_layer": RECALL.by_layer}, "needs either rank or by_layer"),
        ({"rank": lambda score_BL: score_BL}, "asks for 'score_BL'; a layer offers scores_BL, "),
        ({"rank": lambda scores_BL, weight=0.5: scores_BL}, "asks for 'weight'; a layer offers"),
        (
            {"rank": lambda asked_BL: asked_BL},
            "asks for 'asked_BL', which causal models alone offer",
        ),
    ],
)
def test_a_strategy_that_cannot_work_is_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=f"strategy 'mine' {message}"):
        Strategy("mine", **options)


def test_a_strategy_by_layer_says_itself_whether_it_merges_draws_nothing_and_asks_no_head():
    for inner in (strategies.MERGE, strategies.RANDOM, strategies.UNDECIDED):
        merges = inner is strategies.UNDECIDED
        mine = Strategy("mine", by_layer=lambda n, layers, inner=inner: inner, merges=merges)
        with pytest.raises(ValueError, match=f"strategy 'mine' takes '{inner.name}' in layer 0"):
            mine.at(0, 2)


def test_a_plan_that_names_no_strategy_merges_and_draws_nothing():
    plan = make_plan(tiny.PROFILE, 0.8, 8)
    assert not plan.merges
    assert not plan.draws
