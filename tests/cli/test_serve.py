"""The command that serves: as a process of its own, from its start to its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
import tiny
import tiny_run
from paths import ROOT

import latadj_jax
from latadj_jax.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    model = tiny.make_model("bert", "embedding", num_hidden_layers=1)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, params, tokenizer)
    return str(folder / "model")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(client, path: str, status: int, process) -> httpx.Response:
    """Its answer, as soon as it has this status."""
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        assert process.poll() is None, process.stderr.read()
        try:
            response = client.get(path)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if response.status_code == status:
            return response
        time.sleep(0.1)
    raise TimeoutError(path)


def test_it_starts_serves_and_ends_when_it_is_asked_to(folder):
    port = free_port()
    flags = ["--port", str(port), "--slo_ms", "10000", "--buckets", "24", "--batch_sizes", "1,4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1",
                   "LATADJ_API_KEY": "mine"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "latadj_jax.cli", "serve", folder, *flags, "--speedup", "1.5"],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until(client, "/health", 200, process)
            until(client, "/ready", 200, process)
            assert client.post("/embed", json={"inputs": "good"}).status_code == 401
            client.headers["Authorization"] = "Bearer mine"
            response = client.post("/embed", json={"inputs": ["good", "bad"]})
            assert response.status_code == 200
            assert len(response.json()[0]) == 32
            info = client.get("/info").json()
            assert (info["slo_ms"], info["buckets"]) == (10000, [24])
            assert min(info["expected_speedup_of_alpha"].values()) == 1.0
            assert 1.5 <= max(info["expected_speedup_of_alpha"].values()) < 1.6
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert re.search(r"^compiling; http://127", said)
    assert re.search(r"^serving embedding at http://127", said, re.MULTILINE)
    assert '"path": "/embed", "status": 200' in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--slo_ms", "0"], "slo_ms must be a number greater than 0; it is 0.0"),
        (["--port", "http"], "argument --port: takes numbers"),
        (["--speedup", "50"], "speedup 50 is out of reach"),
        (["--min_alpha", "0.5", "--max_speedup", "2"], "not allowed with argument --min_alpha"),
        (["--max_speedup", "0.5"], "max_speedup must be a number of at least 1; it is 0.5"),
        (["--buckets", "400"], "the bucket 400 is longer than the model's 40 positions"),
        (["--max_queue", "0"], "argument --max_queue: must be at least 1"),
        (["--task", "lm"], "'lm'"),
    ],
)
def test_bad_flags_get_one_sentence(folder, flags, message):
    with pytest.raises(SystemExit, match=f"^latadj serve: .*{message}"):
        main(["serve", folder, *flags])
