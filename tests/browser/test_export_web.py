"""The folder for a browser: whole, and its page answers as the graphs do.

What needs the npm registry is marked `npm`; the rest runs the page on stand-ins for its libraries.
"""

import functools
import json
import re
import shutil
from urllib.parse import urlencode

import numpy as np
import pytest
import scipy.special
import tiny
import tiny_run
import tiny_web
from browser import dom
from web_server import web_server

import latadj_jax
from latadj_jax.browser import export_web as module
from latadj_jax.browser import libraries
from latadj_jax.browser.export_web import export_web
from latadj_jax.browser.shown import DOCUMENTS, SENTENCES, TEXT

ALPHAS, BUCKETS = (None, 0.8, 0.6), (8, 16)
TEXTS = {
    "classification": {"first": "good word1 word2 bad"},
    "embedding": {"first": "good word1 word2", "others": "bad\nword3 good <i>x</i>\n\nword4"},
    "ranking": {"first": "good word1", "others": "word2 bad\ngood word4 word5\nbad\nword1 word3"},
}


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory):
    return tiny_web.node_modules(tmp_path_factory.mktemp("node_modules"))


def parts_of(folder, task):
    """A ranking's score as its checkpoint has it, by Sigmoid."""
    model = tiny.make_model("bert", task, num_hidden_layers=1).replace(alpha=0.8)
    return model, tiny.random_params(model), tiny_run.tokenizer(folder)


def export(folder, task, libraries, **options):
    options = {"alphas": ALPHAS, "buckets": BUCKETS, "title": "a <model>", **options}
    export_web(folder / "web", *parts_of(folder, task), libraries=libraries, **options)
    return folder / "web"


@pytest.fixture(scope="module")
def folder_of(node_modules, tmp_path_factory):
    """The exported folder of a task, made when it is first asked for."""
    return functools.cache(lambda task: export(tmp_path_factory.mktemp(task), task, node_modules))


def bars(folder, setting, **fields):
    """(name, number, that of dense) of each bar, as the browser shows them; and the page."""
    with web_server(folder) as address:
        page = dom(f"{address}#{urlencode({'at': setting, **fields})}", budget_ms=None)
    assert '<p id="status"></p>' in page, page
    found = re.findall(r'<li data-name="(.*?)" data-number="(.*?)" data-dense="(.*?)"', page)
    return [(name, float(own), float(dense)) for name, own, dense in found], page


def test_the_folder_is_whole(folder_of):
    """Fails where the page's file, a library or what the graphs need is left out."""
    folder = folder_of("classification")
    about = json.loads((folder / "export.json").read_text())
    assert {graph["file"] for graph in about["graphs"]} == {
        file.name for file in folder.glob("*.onnx")
    }
    page = json.loads((folder / "page.json").read_text())
    assert page == {"title": "a <model>", "first": "Text", "others": "", "examples": [*TEXT],
                    "answer": "softmax", "pairs": False, "prompt": ""}  # fmt: skip
    names = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    assert {"index.html", "page.js", "answers.js", "tokenizer.json", "weights.bin"} <= names
    assert {f"libraries/{name}" for one in libraries.LIBRARIES for name in one.files} <= names
    # No address but those in the folder.
    written = "".join((folder / name).read_text() for name in module.PAGE)
    assert "://" not in written.replace("from file://", "")


def test_labels_have_bars_and_long_texts_are_cut(folder_of):
    folder, text = folder_of("classification"), "a bb ccc " * 6
    labels = json.loads((folder / "export.json").read_text())["labels"]
    for setting, alpha in ((0, None), (2, 0.6)):
        found, page = bars(folder, setting, first=text)
        expected, dense = (
            scipy.special.softmax(tiny_web.logits(text, None, 16, of)) for of in (alpha, None)
        )
        assert [name for name, *_ in found] == labels
        np.testing.assert_allclose([own for _, own, _ in found], expected, rtol=1e-5)
        np.testing.assert_allclose([of for *_, of in found], dense, rtol=1e-5)
        assert "1 text of up to 16 tokens, padded to 16, on 1 thread. 1 text cut to 16" in page
        assert "<h1 id=\"title\">a &lt;model&gt;</h1>" in page  # fmt: skip
        assert re.search(r'id="ms">\d+\.\d ms<.*id="dense-ms">\d+\.\d ms<', page)
        named = "dense" if alpha is None else rf"\d\.\d\dx expected \(alpha {alpha}"
        assert re.search(rf'id="setting">{named}', page)


def test_sentences_have_their_cosine_with_the_first(folder_of):
    (first, others), (found, page) = (
        TEXTS["embedding"].values(),
        bars(folder_of("embedding"), 2, **TEXTS["embedding"]),
    )
    others = [line for line in others.split("\n") if line]
    rows = [tiny_web.logits(text, None, 16, 0.6) for text in (first, *others)]
    expected = [row @ rows[0] / np.linalg.norm(row) / np.linalg.norm(rows[0]) for row in rows[1:]]
    np.testing.assert_allclose([own for _, own, _ in found], expected, rtol=1e-5)
    assert "word3 good &lt;i&gt;x&lt;/i&gt;" in page
    assert "4 texts of up to 5 tokens, padded to 8" in page


def test_documents_are_ranked(folder_of):
    """By a stand-in whose score is how many tokens a pair has."""
    found, _ = bars(folder_of("ranking"), 0, **TEXTS["ranking"])
    assert [name for name, *_ in found] == ["good word4 word5", "word2 bad", "word1 word3", "bad"]
    scores = scipy.special.expit(np.array([8, 7, 7, 6]) / 10)
    np.testing.assert_allclose([own for _, own, _ in found], scores, rtol=1e-5)


def test_what_fails_is_said(tmp_path, folder_of):
    """A file that is missing, and a page that no server serves."""
    folder = shutil.copytree(folder_of("classification"), tmp_path / "web")
    (folder / "weights.bin").unlink()
    with web_server(folder) as address:
        assert "It did not work: weights.bin cannot be read (404)" in dom(address, budget_ms=None)
    assert "Serve this folder, e.g. by: python -m http.server" in dom(
        (folder / "index.html").as_uri(), budget_ms=None
    )


def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, node_modules, monkeypatch):
    def refused(sentence, task="classification", libraries=node_modules, **changes):
        model, params, tokenizer = parts_of(tmp_path, task)
        with pytest.raises(ValueError, match=sentence):
            export_web(
                tmp_path / "web", model.replace(**changes), params, tokenizer, libraries=libraries
            )
        assert not (tmp_path / "web").exists()

    refused(
        "the page shows classification, .*ranking; the model is for 'token-classif",
        "token-classification",
    )
    refused("the model's dtype is bfloat16", dtype="bfloat16")
    refused(
        r"ort.wasm.bundle.min.mjs is not there: the page needs onnxruntime-web@1",
        libraries=tmp_path,
    )
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refused(
        r"the page needs onnxruntime-web@\S+ and @huggingface\S+: install npm, which",
        libraries=None,
    )
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    refused(r"npm could not fetch onnxruntime-web@\S+: connect to a registry, or", libraries=None)


# ---- with the libraries that npm fetches ------------------------------------------------------


@pytest.fixture(scope="module")
def real_libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    with libraries.found_libraries() as files:
        for name, file in files.items():
            shutil.copyfile(file, folder / name)
    return folder


@pytest.mark.npm
@pytest.mark.parametrize(
    ("task", "quantize"),
    [("classification", None), ("ranking", None), ("embedding", None), ("embedding", "int8")],
)
def test_a_browser_answers_as_an_engine_does(
    tmp_path, task, quantize, real_libraries, node_modules
):
    """Fails where onnxruntime-web or the tokenizer does something else than their elders."""
    folder = export(tmp_path, task, node_modules, quantize=quantize)
    shutil.copytree(real_libraries, folder / "libraries", dirs_exist_ok=True)
    fields = TEXTS[task]
    others = [line for line in fields.get("others", "").split("\n") if line]
    for setting, alpha in ((0, None), (2, 0.6)):
        found, page = bars(folder, setting, **fields)
        # As the page pads: int8 has one scale for a whole batch, so that padding matters a little.
        length = int(re.search(r"padded to (\d+)", page)[1])
        engine = latadj_jax.OnnxEngine(folder, buckets=(length,)).warmup(repeats=1)
        if task == "ranking":
            expected = [one.score for one in engine.rank(fields["first"], others, alpha=alpha)]
        elif task == "embedding":
            first, *rows = engine([fields["first"], *others], alpha=alpha)
            expected = [row @ first for row in rows]
        else:
            expected = scipy.special.softmax(engine([fields["first"]], alpha=alpha)[0])
        np.testing.assert_allclose([own for _, own, _ in found], expected, atol=1e-5)


def test_examples_are_there_for_every_field():
    assert all(len(texts) == 2 and "\n" in texts[1] for texts in (SENTENCES, DOCUMENTS))
