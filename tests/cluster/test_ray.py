"""Ray itself, with workers that are killed: `pytest -m ray tests/cluster`, after
`pip install '.[ray]'`. A minute or two, so that CI leaves it out."""

import os
import signal
import subprocess
import threading
import time

import httpx
import numpy as np
import pytest
import tiny
import tiny_run
import yaml
from paths import ROOT
from tolerance import SAME

import latadj_jax

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

TEXTS = [f"good word{n % 40} word{n * 7 % 40}" for n in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    model = tiny.make_model("bert", "embedding", num_hidden_layers=1)
    params, tokenizer = tiny.random_params(model), tiny_run.tokenizer(folder)
    latadj_jax.save_pretrained(folder / "model", model, params, tokenizer)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """Dense, by an engine of this process."""
    model, params = latadj_jax.from_pretrained(folder / "model")
    tokenizer = latadj_jax.load_tokenizer(str(folder / "model"))
    with latadj_jax.Engine(model, params, tokenizer, buckets=(24,), batch_sizes=(1,)) as engine:
        return engine.warmup(repeats=1)(TEXTS, alpha=None)


@pytest.fixture(scope="module")
def cluster():
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=2 * 10**8)
    yield ray
    ray.shutdown()


def workers(title: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"^ray::{title}"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def until(true, within_s: float = 120) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.2)


def test_a_killed_replica_gives_no_wrong_answer_and_another_takes_its_place(
    cluster, folder, expected
):
    """Eight clients all the while: each answer is that of its text, and what was with the killed
    one is an error of Ray's."""
    from ray import serve

    from latadj_jax.cluster.arguments import argv_of
    from latadj_jax.cluster.ray_serve import Replica

    args = {"model": folder / "model", "buckets": 24, "batch_sizes": "1,4", "speedup": "1.5"}
    options = {"num_replicas": 2, "autoscaling_config": None, "health_check_period_s": 1}
    serve.start(http_options={"port": 8149})
    serve.run(Replica.options(**options).bind(argv_of(args)), route_prefix="/")
    statuses, wrong, stop = [], [], threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url="http://127.0.0.1:8149", timeout=60) as client:
            n = first
            while not stop.is_set():
                n = (n + 1) % len(TEXTS)
                try:
                    response = client.post("/embed", json={"inputs": TEXTS[n], "alpha": "dense"})
                except httpx.TransportError:  # Ray restarts its proxy, too, on a busy machine
                    continue
                statuses.append(response.status_code)
                if response.status_code == 200 and not np.allclose(
                    response.json()[0], expected[n], **SAME
                ):
                    wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: statuses.count(200) > 100)
        before = workers("ServeReplica")
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len({*workers("ServeReplica")} - {before[0]}) == 2)
        answered = statuses.count(200)
        until(lambda: statuses.count(200) > answered + 200)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        serve.shutdown()
    assert not wrong
    assert {*statuses} <= {200, 429, 500, 503}
    assert statuses.count(500) <= 16  # at most what eight clients had with it, and a second try


def test_rows_are_neither_lost_nor_doubled_when_an_actor_is_killed(
    cluster, folder, expected, tmp_path
):
    import pyarrow
    from pyarrow import parquet

    from latadj_jax.cluster.batch_engine import BatchEngine

    class Slowly(BatchEngine):
        def __call__(self, batch):
            time.sleep(0.3)
            return super().__call__(batch)

    table = pyarrow.table({"id": range(1200), "text": [TEXTS[n % 40] for n in range(1200)]})
    rows = cluster.data.from_arrow(table).repartition(12)
    rows = rows.map_batches(
        Slowly, fn_constructor_args=(str(folder / "model"),),
        fn_constructor_kwargs={"speedup": 1.0, "buckets": (24,)},
        batch_size=32, concurrency=(2, 2), num_cpus=1,
    )  # fmt: skip
    killed = []

    def kill() -> None:
        until(lambda: len(workers("MapWorker")) == 2)
        time.sleep(3)  # in the middle of its work
        killed.append(workers("MapWorker")[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    rows.write_parquet(str(tmp_path / "rows"))
    thread.join()
    found = parquet.read_table(tmp_path / "rows").to_pandas().sort_values("id")
    assert killed
    assert found["id"].tolist() == list(range(1200))
    wanted = np.tile(expected, (30, 1))
    np.testing.assert_allclose(np.stack(found["row"]), wanted, **SAME)


def test_the_yaml_is_one_that_serve_reads():
    from ray.serve.schema import ServeDeploySchema

    from latadj_jax.cluster.ray_serve import application

    config = yaml.safe_load((ROOT / "deploy" / "ray_serve.yaml").read_text())
    (found,) = ServeDeploySchema.model_validate(config).applications
    module, name = found.import_path.split(":")
    assert (module, name) == (application.__module__, application.__name__)
    application(found.args)
    assert [one.name for one in found.deployments] == ["latadj"]
