"""What README.md and docs/ say of the project is so: names, tables, lengths, numbers."""

import ast
import json
import re
import tomllib

import generated
import measured_tables
import pytest
from paths import ROOT

import latadj_jax

DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONFIG = (ROOT / "mkdocs.yml").read_text()
RECORD = set(re.findall(r"(\w+\.md)", CONFIG.split("- Record:")[1].split("- Extending")[0]))


def rows_of(table: str, text: str) -> list[list[str]]:
    """The cells of the table whose heading begins so."""
    lines = text[text.index(table) :].split("\n\n")[0].split("\n")
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]


def test_no_page_is_long_but_the_record():
    pages = {page.relative_to(DOCS): page.read_text() for page in DOCS.rglob("*.md")}
    long = {str(name) for name, text in pages.items() if text.count("\n") > 250}
    assert long <= RECORD | {"reference/command.md"}
    assert (ROOT / "README.md").read_text().count("\n") <= 125


@pytest.mark.parametrize("name", ["settings", "command", "http"])
def test_the_reference_is_what_the_code_has(name):
    """Fails until `python docs/generated.py` is run again."""
    assert (DOCS / "reference" / f"{name}.md").read_text() == generated.REFERENCE[name]()


def test_tables_of_benchmarks_are_what_they_wrote():
    """Fails until `python docs/measured_tables.py` is run again."""
    for name in measured_tables.TABLES:
        text = (DOCS / name).read_text()
        assert measured_tables.with_tables(name, text) == text


def test_every_extra_is_in_the_table():
    rows = rows_of("| extra | brings |", (DOCS / "start/install.md").read_text())
    assert {row[0].strip("`") for row in rows} == {*PROJECT["optional-dependencies"]}


def test_the_table_of_versions_is_what_the_project_says():
    rows = rows_of("| Python | jax | tests |", (DOCS / "start/install.md").read_text())
    pythons, jaxes = zip(*(row[:2] for row in rows), strict=True)
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert f"jax>={jaxes[0]}" in PROJECT["dependencies"]
    marks = [c for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert [mark.split(":: ")[-1] for mark in marks] == [*pythons]
    ci = (ROOT / ".ci/run").read_text()
    assert all(f"Python {python}" in ci for python in pythons)


def named_tests() -> list[str]:
    text = (DOCS / "concepts/promises.md").read_text()
    return re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", text)


def test_every_promise_names_a_test():
    rows = re.findall(r"^\| (?!what|---)(.*)\|$", (DOCS / "concepts/promises.md").read_text(), re.M)
    assert len(rows) > 30
    assert all("`tests/" in row for row in rows)


@pytest.mark.parametrize("name", sorted({*named_tests()}))
def test_a_test_that_keeps_a_promise_exists(name):
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert not function or function in {getattr(node, "name", "") for node in tree.body}


def test_every_page_that_the_code_names_exists():
    """In docstrings, comments and messages, too."""
    places = ("latadj_jax", "configs", "benchmarks", "experiments", "tests", ".ci")
    files = [f for place in places for f in (ROOT / place).rglob("*") if f.suffix in ("", ".py")]
    named = {
        (name, file.name)
        for file in [*files, *ROOT.glob("*.md"), *ROOT.glob("*.py")]
        if file.is_file() and file.name != "test_docs.py"
        for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|png)", file.read_text(errors="ignore"))
    }
    assert len(named) > 20
    assert not [where for where in named if not (ROOT / where[0]).is_file()]


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "reference/api.md").read_text()
    missing = [name for name in latadj_jax.__all__ if f"::: latadj_jax.{name}\n" not in page]
    assert missing == ["errors"]  # which has a page of its own
    assert "::: latadj_jax.errors" in (DOCS / "reference/errors.md").read_text()


def test_the_numbers_of_the_readme_stand_in_the_record():
    """Each, rounded, on the page that its row links, where the command stands beside it."""
    for row in rows_of("| job | model and data |", (ROOT / "README.md").read_text()):
        page = (ROOT / re.search(r"\((docs/\w+\.md)", row[0])[1]).read_text()
        for number in re.findall(r"\d+\.\d+", " ".join(row[2:])):
            digits = len(number.split(".")[1])
            there = {f"{float(found):.{digits}f}" for found in re.findall(r"\d+\.\d+", page)}
            assert number in there, f"{number} of {row[0]}"


def test_the_speeds_of_the_readme_are_those_that_were_measured():
    """Each is what benchmarks/jobs_speed.py wrote."""
    found = json.loads((DOCS / "measured/jobs_speed.json").read_text())
    rows = rows_of("| job | model and data |", (ROOT / "README.md").read_text())
    measured = [row for row in rows if len(row) > 5]
    jobs = ("similarity", "search", "rerank", "reviews", "tweets", "tags")
    assert {*jobs} == {*found}
    for row, name in zip(measured, jobs, strict=True):
        job, rates = found[name], found[name]["texts_per_s"]
        assert row[5] == ", ".join(f"{rates[name]:.0f}" for name in ("dense", "2x", "3x"))
        assert row[6] == f"{rates[job['fastest_other']]:.0f}"


@pytest.mark.parametrize("name", ["claims.md", "guides/speed.md", "guides/t5.md", "decoders.md"])
def test_the_numbers_of_a_page_stand_in_the_record(name):
    """A number that is typed wrong, or that a newer measurement changed, is in no record."""
    record = "".join((DOCS / page).read_text() for page in {*RECORD, "serving.md", "onnx.md"})
    known = {*re.findall(r"\d+\.\d+", record)}
    text = re.sub(r"```.*?```", "", (DOCS / name).read_text(), flags=re.DOTALL)
    allowed = {"1.5", "2.9", "1.0", "1.1"}  # speeds that are asked for; T5's versions
    assert not {*re.findall(r"\d+\.\d+", text)} - known - allowed


def test_the_newest_version_is_in_the_changelog():
    assert f"## [{latadj_jax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
