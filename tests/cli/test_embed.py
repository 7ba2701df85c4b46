"""The command that embeds lines."""

import io

import numpy as np
import pytest
import tiny
import tiny_run
from tolerance import SAME

import latadj_jax
from latadj_jax.cli.main import main
from latadj_jax.families.pooling import Embedding, NormalizeStep
from latadj_jax.pretrained.tokenizers import load_tokenizer

LINES = "good word1 word2 word3\n\nbad word4 word5\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed")
    model = tiny.make_model("bert", "embedding", num_hidden_layers=2)
    embedding = Embedding(prompts=(("query", "good "),), steps=(NormalizeStep(),))
    model = model.replace(config=model.config.replace(embedding=embedding), alpha=0.9)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, params, tokenizer)
    return folder / "model"


def embed(monkeypatch, folder, output, *flags, lines=LINES) -> np.ndarray:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    main(["embed", str(folder), "--output", str(output), "--buckets", "8", *flags])
    return np.load(output)


@pytest.mark.parametrize(
    ("flags", "alpha", "prompt"),
    [((), 0.9, ""), (("--alpha", "dense"), None, ""), (("--prompt", "query"), 0.9, "good ")],
)
def test_it_writes_a_vector_for_each_line(monkeypatch, tmp_path, folder, flags, alpha, prompt):
    """That of `apply`; zeros for the empty line."""
    vectors = embed(monkeypatch, folder, tmp_path / "vectors.npy", *flags)
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = load_tokenizer(str(folder))
    assert (vectors.shape, vectors.dtype) == ((3, 32), np.float32)
    assert not vectors[1].any()
    for line, vector in zip(LINES.split("\n"), vectors, strict=False):
        if line:
            batch = dict(tokenizer(prompt + line, return_tensors="np"))
            out = latadj_jax.apply(model, params, batch, alpha)
            np.testing.assert_allclose(vector, out.embedding[0], **SAME)


@pytest.mark.parametrize(
    ("flags", "lines", "message"),
    [
        (("--prompt", "quary"), LINES, "prompt 'quary' is not the model's; it has: query"),
        (("--task", "features"), LINES, "a model embeds with task 'embedding'; --task is 'featu"),
        ((), "", "there are no lines to embed"),
        (("--speedup", "50"), LINES, "out of reach"),
    ],
)
def test_bad_input_gets_one_sentence(monkeypatch, tmp_path, folder, flags, lines, message):
    with pytest.raises(SystemExit, match=f"^latadj embed: .*{message}"):
        embed(monkeypatch, folder, tmp_path / "vectors.npy", *flags, lines=lines)
    assert not (tmp_path / "vectors.npy").exists()
