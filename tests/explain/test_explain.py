"""What lives until which layer: the numbers, and the page as a real browser shows it."""

import dataclasses
import re
from html import unescape

import numpy as np
import pytest
import tiny
import tiny_run
from browser import dom

import latadj_jax
from latadj_jax.explain.explain import explain, write_page
from latadj_jax.model.buckets import pad

TEXTS = [
    "word3 good word7 word1 word9 word2",
    "bad word5",
    ("word11 word12  word13", "word14 good"),
]


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    model, params = tiny.make(task="classification")
    tokenizer = tiny_run.tokenizer(tmp_path_factory.mktemp("vocabulary"))
    return model, params, tokenizer, explain(model, params, tokenizer, TEXTS, (0.9, 0.6))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_entered_is_what_the_layers_before_left(family):
    """Fails where `entered` or `scores` are of other slots than they say."""
    model, params = tiny.make(family, tiny.main_task(family))
    batch, _ = tiny.mixed_batch(family)
    plan = model.plan(0.8, 16)
    out = latadj_jax.apply(model, params, batch, plan=plan, return_scores=True)
    for layer, entered in enumerate(out.entered):
        upto = (*plan.rates[:layer], *[1.0] * (plan.num_layers - layer))
        before = dataclasses.replace(plan, rates=upto)
        expected = latadj_jax.apply(model, params, batch, plan=before).positions
        np.testing.assert_array_equal(entered, expected)
        assert out.scores[layer].shape == entered.shape
        np.testing.assert_array_equal(np.asarray(out.scores[layer])[np.asarray(entered) < 0], 0)


def test_a_token_lives_as_long_as_in_apply_of_its_text_alone(explained):
    model, params, tokenizer, found = explained
    assert [setting["alpha"] for setting in found["settings"]] == [None, 0.9, 0.6]
    assert found["settings"][0]["speedup"] == 1
    removed = 0
    for text, of_text in zip(TEXTS, found["texts"], strict=True):
        parts = (text,) if isinstance(text, str) else text
        encoded = tokenizer(*parts)
        keys = ("input_ids", "token_type_ids")
        example = {key: np.array(encoded[key], np.int32) for key in keys}
        length = len(example["input_ids"])
        for n, setting in enumerate(found["settings"]):
            lived, counts = np.array(of_text["lived"][n]), of_text["counts"][n]
            out = latadj_jax.apply(model, params, pad([example], length), setting["alpha"])
            survivors = np.asarray(out.positions[0])
            np.testing.assert_array_equal(np.flatnonzero(lived == 3), survivors[survivors >= 0])
            label = model.config.labels[int(np.argmax(out.logits[0]))]
            assert of_text["answer"][n].startswith(f"{label} (")
            assert [int((lived > layer).sum()) for layer in range(3)] == counts
            expected = [length] * 3 if n == 0 else list(model.plan(setting["alpha"], length).counts)
            assert counts == expected
            removed += length - counts[-1]
    assert removed > 10


def test_pieces_are_the_text(explained):
    *_, found = explained
    for text, of_text in zip(TEXTS, found["texts"], strict=True):
        shown = "".join(before + own for before, own in of_text["pieces"])
        parts = (text,) if isinstance(text, str) else text
        assert shown == " [CLS]" + "".join(f"{part} [SEP]" for part in parts)


def test_default_alphas_go_from_slow_to_fast(explained):
    model, params, tokenizer, _ = explained
    model = model.replace(profile=latadj_jax.Profile.constant(3), alpha=0.97)
    found = explain(model, params, tokenizer, TEXTS[:1])
    alphas = [setting["alpha"] for setting in found["settings"]]
    assert alphas[0] is None
    assert 0.97 in alphas
    assert alphas[1:] == sorted(alphas[1:], reverse=True)
    assert len(alphas) > 4


def test_a_language_model_is_explained(tokenizer):
    model, params = tiny.make("gpt2", "lm", vocab_size=310)
    (text,) = explain(model, params, tokenizer, ["the old river stone"], (0.6,))["texts"]
    assert "".join(before + own for before, own in text["pieces"]) == "the old river stone"
    assert text["answer"] == ["", ""]
    assert text["lived"][1][-1] == 3  # the last token of a prompt is protected
    assert text["counts"][1] == list(model.plan(0.6, len(text["pieces"])).counts)


def test_a_tagger_s_tokens_live_as_long_as_in_apply_though_each_has_an_answer(tmp_path):
    """Fails where what was restored for the head counts as alive."""
    names = {"0": "O", "1": "B-x", "2": "I-x"}
    model = tiny.make_model("bert", "token-classification", num_hidden_layers=2, id2label=names,
                            label2id={name: int(i) for i, name in names.items()})  # fmt: skip
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(tmp_path)
    text = TEXTS[0].replace("good", "Good")
    found = explain(model, params, tokenizer, [text, TEXTS[2]], (0.6,))
    tagged, pair = found["texts"]
    plan = model.plan(0.6, len(tagged["pieces"]))
    assert tagged["counts"] == [[8, 8], list(plan.counts)]
    assert [sum(lived == 2 for lived in text) for text in tagged["lived"]] == [8, plan.counts[-1]]
    engine = latadj_jax.Engine(model, params, tokenizer, alphas=(None, 0.6), buckets=(8,),
                               batch_sizes=(1,)).warmup(repeats=1)  # fmt: skip
    for alpha, answer in zip((None, 0.6), tagged["answer"], strict=True):
        (entities,) = engine.tag([text], alpha=alpha)
        shown = [f"{text[e['start'] : e['end']]}: x ({e['score']:.2f})" for e in entities]
        assert answer == ", ".join(shown)
        assert shown
    assert pair["answer"] == ["", ""]


def test_a_character_of_several_tokens_is_shown_once(tokenizer):
    model, params = tiny.make("gpt2", "lm", vocab_size=310)
    (text,) = explain(model, params, tokenizer, ["old \U0001f600 river"], (0.6,))["texts"]
    assert len(text["pieces"]) > 3
    assert "".join(before + own for before, own in text["pieces"]) == "old \U0001f600 river"


def test_a_speedup_is_that_at_the_padded_length(explained):
    model, params, tokenizer, _ = explained
    model = model.replace(profile=latadj_jax.Profile.constant(3))
    dense, faster = explain(model, params, tokenizer, TEXTS[:1], (), (1.5,))["settings"]
    assert dense["alpha"] is None
    assert 1.5 <= faster["speedup"] < 1.6


@pytest.mark.parametrize(
    ("texts", "alphas", "sentence"),
    [
        ([], (), "there is no text"),
        ("word1", (), "a list of texts; it is one string"),
        ([" "], (), "a text to explain is empty"),
        (["word1 " * 60], (), "has 62 tokens, the model has 40 positions; shorten it"),
        (["word1"], (0.0,), "alpha must be finite and greater than 0"),
    ],
)
def test_refuses_in_one_sentence(explained, count_compilations, texts, alphas, sentence):
    model, params, tokenizer, _ = explained
    with pytest.raises(ValueError, match=sentence):
        explain(model, params, tokenizer, texts, alphas)
    assert count_compilations() == 0


# ---- the page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [0, 1, 2])
def test_a_browser_shows_what_lives_at_the_slider_s_place(tmp_path, explained, setting):
    *_, found = explained
    file = tmp_path / "page.html"
    write_page(file, found, "three <texts>")
    assert not re.search(r"(?:src|href)\s*=|https?://|@import|url\(", file.read_text())
    page = dom(f"{file.as_uri()}#{setting}")
    assert "<h1>three &lt;texts&gt;</h1>" in page
    alpha = found["settings"][setting]["alpha"]
    assert f">{'dense' if alpha is None else f'{alpha:.3f}'}, expected speedup " in page
    articles = re.findall("<article>.*?</article>", page, re.DOTALL)
    for article, text in zip(articles, found["texts"], strict=True):
        spans = re.findall(r'<span[^>]* data-lived="(\d+)"[^>]*>([^<]*)</span>', article)
        assert [int(lived) for lived, _ in spans] == text["lived"][setting]
        assert [unescape(own) for _, own in spans] == [own for _, own in text["pieces"]]
        counts = " ".join(map(str, text["counts"][setting]))
        assert f"left after each layer: {counts}<" in article
        assert text["answer"][setting] in article


def test_half_an_emoji_spoils_no_page(tmp_path, explained):
    """In a text, and in the title: an argument that is no UTF-8 holds the like."""
    model, params, tokenizer, _ = explained
    (text,) = explain(model, params, tokenizer, ["good \ud83d"], (0.9,))["texts"]
    assert [piece for _, piece in text["pieces"]] == ["[CLS]", "good", "[SEP]"]  # BERT drops it
    write_page(tmp_path / "page.html", explained[3], "model \udcff")
    assert "model \ufffd" in (tmp_path / "page.html").read_text("utf-8")


def test_a_text_is_never_markup(tmp_path):
    """Fails where a user's text can end the script or become an element."""
    evil = "</script><script>document.title='caught'</script><img src=x onerror=alert(1)>"
    found = {
        "layers": 1,
        "settings": [{"alpha": None, "speedup": 1.0, "skipped": []}],
        "texts": [{"pieces": [(" ", evil)], "lived": [[1]], "counts": [[1]], "answer": [evil]}],
    }
    file = tmp_path / "page.html"
    write_page(file, found, "a page")
    page = dom(file.as_uri())
    assert "<title>a page</title>" in page
    assert "<img" not in re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert "&lt;img src=x" in page
