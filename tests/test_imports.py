"""Data flows one way, and imports follow it."""

import ast
import subprocess
import sys

import pytest
from paths import ROOT

import latadj_jax

PACKAGE = ROOT / "latadj_jax"
# Modules at the top, then folders: each imports only those before it.
ORDER = [
    "errors",
    "extras",
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
    "onnx_graph",
    "generation",
    "serving",
    "browser",
    "data",
    "evaluation",
    "training",
    "explain",
    "harness",
    "cli",
    "cluster",
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
    public = {*latadj_jax.__all__} - {"errors"}  # which is a module
    assert not public & {name.split(".")[0] for name in modules()}


def test_import_loads_nothing_heavy():
    """Names are imported when they are first used; fails where one is imported before."""
    program = """
import sys
import latadj_jax
heavy = "jax flax transformers datasets optax orbax sklearn scipy matplotlib torch numpy".split()
assert not {*heavy} & {*sys.modules}, sys.modules.keys()
latadj_jax.apply
later = "transformers datasets sklearn matplotlib torch".split()
assert not {*later} & {*sys.modules}, sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize("name", latadj_jax.__all__)
def test_a_public_name_is_there(name):
    assert getattr(latadj_jax, name)
    assert name in dir(latadj_jax)


def test_type_checkers_see_the_public_names():
    """Fails where a name is in the table of homes and not beside it, or elsewhere."""
    seen = {
        alias.name: node.module
        for block in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    homes = {name: f"latadj_jax.{home}" for name, home in latadj_jax._HOMES.items()}
    assert seen == homes


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'latadj_jax' has no attribute 'aply'"):
        latadj_jax.aply  # noqa: B018
