"""Data flows one way, and imports follow it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import latadj_jax

PACKAGE = Path(latadj_jax.__file__).parent
# A module may import only those before it.
ORDER = [
    "checks",
    "processes",
    "writing",
    "mesh",
    "score",
    "eliminate",
    "ranking",
    "profile",
    "plan",
    "parts",
    "batch",
    "hf_config",
    "rotary",
    "config",
    "layers",
    "merging",
    "outputs",
    "sources",
    "gguf",
    "gguf_tokenizer",
    "bert",
    "cached_attention",
    "decoder",
    "gpt2",
    "llama",
    "relative",
    "t5_layers",
    "t5",
    "model",
    "sharding",
    "weights",
    "convert",
    "api",
    "saving",
    "simulate",
    "explain",
    "exporting",
    "sampling",
    "beam",
    "continuation",
    "generation",
    "metrics",
    "rules",
    "settings",
    "files",
    "tables",
    "text",
    "corpus",
    "far_back",
    "windows",
    "likelihood",
    "tasks",
    "optim",
    "steps",
    "checkpoint",
    "stopping",
    "calibration",
    "measure",
    "runs",
    "perplexity",
    "evaluation",
    "job",
    "generated",
    "teacher",
    "labelled",
    "lm",
    "seq2seq",
    "jobs",
    "plots",
    "report",
    "training",
    "harness",
    "requests",
    "programs",
    "latency",
    "budgets",
    "dynamic_batching",
    "engine",
    "classify",
]


def imported_modules(source: str) -> set[str]:
    """Modules of the package that `source` imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("latadj_jax.")}
    return {name for name in found if (PACKAGE / f"{name}.py").exists()}


def test_import_finder_sees_every_form_of_import():
    source = """
import latadj_jax.score
from latadj_jax.plan import Plan
def later():
    from latadj_jax import convert, Profile
"""
    assert imported_modules(source) == {"score", "plan", "convert"}


@pytest.mark.parametrize("module", sorted(p.stem for p in PACKAGE.glob("[!_]*.py")))
def test_modules_import_only_earlier_ones(module):
    assert module in ORDER, f"add {module} to ORDER, after what it imports and before its users"
    earlier = ORDER[: ORDER.index(module)]
    late = imported_modules((PACKAGE / f"{module}.py").read_text()) - set(earlier)
    assert not late, f"{module} imports {sorted(late)}, which are not before it in ORDER"


def test_no_module_hides_a_public_name():
    """With a file apply.py, `latadj_jax.apply` would mean two things."""
    assert not set(latadj_jax.__all__) & {p.stem for p in PACKAGE.glob("*.py")}


def test_import_needs_no_torch():
    """torch is an optional extra: `import latadj_jax` must work, and be fast, without it."""
    program = "import sys; sys.modules['torch'] = None; import latadj_jax"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)
