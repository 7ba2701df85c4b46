"""The routes over exported graphs: the same server, controller and answers."""

import httpx
import numpy as np
import pytest
from served import make_engine, make_service, served
from tolerance import SAME

import latadj_jax
from latadj_jax.cli.serve import _engine, make_parser

pytest.importorskip("onnxruntime")
TEXTS = ["good word1 word2", "bad", "word3 good word4 word5"]
SLOW, FAST = 0.9, 0.6


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return make_engine(folder, "embedding", alphas=(None, FAST)).warmup(repeats=1)


@pytest.fixture(scope="module")
def exported(engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    options = {"alphas": engine.alphas, "buckets": engine.buckets}
    params = engine._programs.params
    latadj_jax.export_onnx(folder, engine.model, params, engine.tokenizer, **options)
    return str(folder)


def test_requests_are_answered_as_by_programs_of_jax(engine, exported):
    """Fails where the command starts another engine, or a deadline chooses among other alphas."""
    flags = ["--runtime", "onnx", "--batch_sizes", "1,4", "--max_queue", "64"]
    onnx = _engine(make_parser("latadj serve").parse_args([exported, *flags]))
    service = make_service(onnx, slo_ms=10_000)
    with served(service) as address, httpx.Client(base_url=address, timeout=30) as client:
        info = client.get("/info").json()
        assert [*info["expected_speedup_of_alpha"]] == ["dense", "0.9", "0.6"]
        assert info["max_waiting_texts"] == 64
        for asked, alpha in (({"alpha": FAST}, FAST), ({"speedup": 1.05}, SLOW), ({}, None)):
            response = client.post("/embed", json={"inputs": TEXTS, **asked})
            assert response.status_code == 200, response.text
            assert response.headers["x-latadj-alpha"] == ("dense" if alpha is None else str(alpha))
            np.testing.assert_allclose(response.json(), engine(TEXTS, alpha=alpha), **SAME)


@pytest.mark.parametrize(
    ("flags", "alphas"),
    [
        ([], (None, SLOW, FAST)),
        (["--alphas", "0.6"], (None, SLOW, FAST)),  # the model's own is always there
        (["--speedup", "1.05", "--buckets", "24"], (None, SLOW)),
    ],
)
def test_flags_choose_among_the_exported_alphas(exported, flags, alphas):
    args = make_parser("latadj serve").parse_args([exported, "--runtime", "onnx", *flags])
    assert _engine(args).alphas == alphas


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--alphas", "0.5"], "alphas has 0.5, which .* was not exported for; it has dense, 0.9"),
        (["--buckets", "32"], "buckets has 32, which .* was not exported for; it has 24"),
        (["--speedup", "30"], "speedup 30 is out of reach at 24 tokens"),
        (["--dtype", "bfloat16"], "--task, --dtype and --no-strict are of --runtime jax"),
    ],
)
def test_bad_flags_are_one_sentence(exported, flags, sentence):
    args = make_parser("latadj serve").parse_args([exported, "--runtime", "onnx", *flags])
    with pytest.raises(ValueError, match=sentence):
        _engine(args)


def test_a_folder_that_holds_no_graphs_is_one_sentence(tmp_path):
    args = make_parser("latadj serve").parse_args([str(tmp_path), "--runtime", "onnx"])
    with pytest.raises(
        ValueError, match=r"holds no export.json: write the folder by latadj export"
    ):
        _engine(args)
