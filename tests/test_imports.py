"""Data flows one way, and imports follow it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import latadj_jax

PACKAGE = Path(latadj_jax.__file__).parent
# Modules at the top, then folders: each imports only those before it.
ORDER = [
    "errors",
    "checks",
    "atomic_file",
    "timing",
    "devices",
    "layers",
    "elimination",
    "families",
    "tasks",
    "model",
    "pretrained",
    "generation",
    "serving",
    "data",
    "evaluation",
    "training",
    "explain",
    "harness",
]


def imported(source: str) -> set[str]:
    """Modules of the package that `source` imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("latadj_jax.") for name in found if name.startswith("latadj_jax.")}


def modules() -> dict[str, str]:
    """The source of each module but the front door, by its dotted name within the package."""
    files = {file.relative_to(PACKAGE).with_suffix(""): file for file in PACKAGE.rglob("*.py")}
    return {
        ".".join(name.parts): file.read_text()
        for name, file in files.items()
        if name.parts != ("__init__",)
    }


def test_import_finder_sees_every_form_of_import():
    source = """
import latadj_jax.elimination.score
from latadj_jax.elimination.plan import Plan
def later():
    from latadj_jax.pretrained import convert
"""
    wanted = {"elimination.score", "elimination.plan", "pretrained.convert"}
    assert wanted <= imported(source)


@pytest.mark.parametrize("place", ORDER)
def test_folders_import_only_earlier_ones(place):
    allowed = {*ORDER[: ORDER.index(place) + 1]}
    for name, source in modules().items():
        if name.split(".")[0] == place:
            late = {n for n in imported(source) if n.split(".")[0] not in allowed}
            assert not late, f"{name} imports {sorted(late)}, which are not before it in ORDER"


def test_every_module_is_in_the_order():
    assert {name.split(".")[0] for name in modules()} == {*ORDER}


def test_modules_import_each_other_in_no_circle():
    everything = modules()
    needs = {name: imported(source) & set(everything) for name, source in everything.items()}
    while ready := [name for name, wanted in needs.items() if not wanted & set(needs)]:
        for name in ready:
            del needs[name]
    assert not needs, f"these import each other: {sorted(needs)}"


def test_no_module_hides_a_public_name():
    """With a file apply.py at the top, `latadj_jax.apply` would mean two things."""
    assert not set(latadj_jax.__all__) & {name.split(".")[0] for name in modules()}


def test_import_needs_no_torch():
    """torch is an optional extra: `import latadj_jax` must work, and be fast, without it."""
    program = "import sys; sys.modules['torch'] = None; import latadj_jax"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)
