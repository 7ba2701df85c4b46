"""`latadj COMMAND ...`: the list of commands, and the door to each."""

import importlib
import os
import sys

import latadj_jax
from latadj_jax.cli.programs_cache import keep_programs

# Each is a module of this folder with a function `run(argv, prog)`; only the one asked for is
# imported.
COMMANDS = {
    "train": "fine-tune a model with elimination on, and evaluate it",
    "adapt": "make a finished model latency-adjustable, from texts without labels",
    "search": "find the profile that changes a model's answers least",
    "evaluate": "measure quality and speed of a run, dense and pruned",
    "perplexity": "score a text file with a language model, dense and pruned",
    "last-words": "score last words (LAMBADA) with a language model, dense and pruned",
    "classify": "label each line of a file",
    "embed": "write a vector for each line of a file",
    "retrieval": "measure how well a model finds documents, dense and pruned",
    "rank": "rank the lines of a file by how well they answer a query",
    "answer": "answer the questions of a file from their contexts",
    "tag": "find the entities in each line of a file",
    "serve": "serve a model over HTTP; under load it prunes more before it refuses",
    "explain": "write a page that shows which tokens are removed in which layer",
    "export": "write programs that run without this library",
}

USAGE = "\n".join(
    (
        "usage: latadj COMMAND [flags]",
        "",
        "Latency-adjustable transformers: the same checkpoint at 1x, 2x or 3x speed.",
        "",
        *(f"  {name:12}{what}" for name, what in COMMANDS.items()),
        "",
        "`latadj COMMAND --help` lists a command's flags, `latadj --version` prints the version.",
    )
)


def main(argv: list[str] | None = None) -> None:
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
    elif name == "--version":
        print(f"latadj {latadj_jax.__version__}")
    elif name in COMMANDS:
        call(name, rest, f"latadj {name}")
    else:
        sys.exit(f"latadj: {name!r} is no command; there are: {', '.join(COMMANDS)}.")


def call(name: str, argv: list[str], prog: str) -> None:
    """Runs a command under the name `prog`; bad input ends it with one sentence, exit code 1."""
    keep_programs()
    # Nothing here needs torch; transformers would say that without it no model is available.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        importlib.import_module(f"latadj_jax.cli.{name.replace('-', '_')}").run(argv, prog)
    except (ValueError, OSError) as error:
        sys.exit(f"{prog}: {error}")
