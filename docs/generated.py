"""Pages of the site that are made from files at the top of the repository, and from the code.

    python docs/generated.py

writes those of the code, which stand in docs/reference so that they can be read without the site;
a test says when they are not up to date any more. mkdocs runs the rest before it reads docs/
(`hooks` of mkdocs.yml). Tables of what was measured: measured_tables.py.
"""

import argparse
import dataclasses
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Set
from pathlib import Path

from measured_tables import table

from latadj_jax.cli.main import COMMANDS
from latadj_jax.training.settings import Settings

ROOT = Path(__file__).parents[1]


def on_files(files, config):
    from mkdocs.structure.files import File

    pages = {
        "index.md": "---\nhide: [navigation]\n---\n" + of_root("README.md"),
        "changelog.md": of_root("CHANGELOG.md"),
        "contributing.md": of_root("CONTRIBUTING.md"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def of_root(name: str) -> str:
    """A file of the repository's top, whose links into docs/ are the site's own."""
    text = (ROOT / name).read_text().replace("](docs/", "](")
    return text.replace("](CONTRIBUTING.md", "](contributing.md").replace(
        "](CHANGELOG.md", "](changelog.md"
    )


# ---- settings, from their dataclasses and the comments beside each field ----------------------


def settings_page() -> str:
    parts = [
        "# Settings of a training run\n",
        "A config is a Python file whose `get_config()` returns these settings. "
        "`latadj train --config NAME` takes one that comes with the package, or a file of yours. "
        "Every setting is also a flag: `--config.train.batch_size=16`. A setting that does not "
        "exist, or a value that cannot work, ends the command with one sentence before anything is "
        "loaded.\n",
    ]
    return "\n".join(parts + list(_sections(Settings, "config")))


def _sections(kind: type, prefix: str):
    rows, below = [], []
    comments = comments_of(kind)
    for field in dataclasses.fields(kind):
        name = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(field.default):
            below.append((type(field.default), name))
            continue
        default = "" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
        rows.append([f"`{name}`", default, comments.get(field.name, "")])
    doc = (kind.__doc__ or "").strip()
    yield f"## {prefix}\n"
    if doc and not doc.startswith(f"{kind.__name__}("):  # what dataclasses writes themselves
        yield f"{inspect.cleandoc(doc)}\n"
    yield table(["setting", "default", "meaning"], rows)
    for inner, name in below:
        yield from _sections(inner, name)


def comments_of(kind: type) -> dict[str, str]:
    """What stands beside each field, or in the lines above it."""
    found, above = {}, []
    for line in textwrap.dedent(inspect.getsource(kind)).splitlines():
        if comment := re.fullmatch(r"    # (.*)", line):
            above += [comment[1]] * (not comment[1].startswith("----"))  # which is a heading
            continue
        if field := re.match(r"    (\w+): [^#]*(?:#\s*(.*))?$", line):
            found[field[1]] = " ".join([*above, *filter(None, [field[2]])])
        above = []
    return found


# ---- the command, from its parsers ------------------------------------------------------------


def command_page() -> str:
    parts = ["# The `latadj` command\n"]
    parts.append(table(["command", "what it does"], [
        [f"[`latadj {name}`](#latadj-{name})", what] for name, what in COMMANDS.items()
    ]))  # fmt: skip
    for name in COMMANDS:
        module = importlib.import_module(f"latadj_jax.cli.{name.replace('-', '_')}")
        parser = module.make_parser(f"latadj {name}")
        parts += [f"## latadj {name}\n", _described(parser.description), _flags(parser)]
        if parser.epilog:
            parts.append(f"{parser.epilog}\n")
    return "\n".join(parts)


def _described(text: str) -> str:
    """A docstring as Markdown: its indented lines, or its command lines, are code."""
    paragraphs = re.split(r"\n\n+", inspect.cleandoc(text))
    made = []
    for paragraph in paragraphs:
        if paragraph.lstrip().startswith("latadj "):
            made.append(f"```sh\n{textwrap.dedent(paragraph)}\n```\n")
        else:
            made.append(f"{paragraph}\n")
    return "\n".join(made)


def _flags(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or "\\|".join(action.choices or ()) or action.dest.upper()
        value = "" if action.nargs == 0 else str(value).replace("\\|", "|")
        names = " ".join(action.option_strings[-1:]) or value
        shown = f"`{names} {value}`" if action.option_strings and value else f"`{names}`"
        rows.append([shown, (action.help or "").replace("%%", "%")])
    return table(["flag", "meaning"], rows)


# ---- HTTP, from the OpenAPI description of the server -----------------------------------------


def http_page() -> str:
    from fastapi import FastAPI

    from latadj_jax.serving.http.about_routes import about_routes
    from latadj_jax.serving.http.app import ROUTES
    from latadj_jax.serving.http.bodies import Body
    from latadj_jax.serving.http.page_routes import page_routes
    from latadj_jax.serving.http.problems import STATUSES

    parts = [
        "# HTTP\n",
        "The routes of `latadj serve`, from its own OpenAPI description. A server has those of its "
        "model's task, and those that every server has; `/docs` shows them with forms to try. How "
        "alpha is chosen, what is limited and what is measured: [Serving under load]"
        "(../serving.md).\n",
        "## How fast?\n",
        "Every body may have one of these beside its own fields:\n",
        fields_table(Body.model_json_schema()),
    ]
    rows = [[str(status), what] for status, what in STATUSES.items()]
    parts += [
        "## Refusals\n",
        "Every refusal is one sentence in JSON. 429 and 503 say when to retry (`Retry-After`).\n",
        table(["status", "when"], rows),
    ]
    tasks: dict = {}
    for task, routes in ROUTES.items():
        tasks.setdefault(routes, []).append(task.name)
    # A route asks for its service when it is called.
    groups = [(", ".join(names), [routes(None)]) for routes, names in tasks.items()]
    groups.append(("every model", [about_routes(None), page_routes(None, ())]))
    for name, routers in groups:
        app = FastAPI()
        for router in routers:
            app.include_router(router)
        parts.append(f"## {name}\n")
        parts += _routes(app.openapi(), {*Body.model_fields})
    return "\n".join(parts)


def _routes(api: dict, told: set[str]):
    schemas = api.get("components", {}).get("schemas", {})
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            yield f"### {method.upper()} {path}\n"
            yield f"{inspect.cleandoc(route.get('description', ''))}\n"
            content = route.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("schema", {}).get("$ref")
            if not body:
                continue
            schema = schemas[body.split("/")[-1]]
            yield fields_table(schema, told)


def fields_table(schema: dict, told: Set[str] = frozenset()) -> str:
    """The fields of a body that were not told of before."""
    rows = []
    for name, field in schema["properties"].items():
        if name in schema.get("required", ()):
            default = "required"
        else:
            default = f"`{json.dumps(field.get('default'))}`"
        if name not in told:
            rows.append([f"`{name}`", _type(field), default, field.get("description", "")])
    return table(["field", "type", "default", "meaning"], rows)


def _type(field: dict) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_type, field["anyOf"])))
    if "$ref" in field:
        return field["$ref"].split("/")[-1]
    if field.get("type") == "array" or "prefixItems" in field:
        items = field.get("items") or {"anyOf": field.get("prefixItems", [])}
        return f"list of {_type(items) or 'anything'}"
    if "enum" in field:
        return " or ".join(f'"{value}"' for value in field["enum"])
    return field.get("type", f'"{field["const"]}"' if "const" in field else "")


# ---- all of them ------------------------------------------------------------------------------

REFERENCE = {"settings": settings_page, "command": command_page, "http": http_page}

if __name__ == "__main__":
    for name, made in REFERENCE.items():
        (ROOT / "docs" / "reference" / f"{name}.md").write_text(made())
