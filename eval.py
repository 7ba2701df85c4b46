"""Evaluates a run at one alpha or several, beside dense; or does what a flag asks for instead.

    python eval.py --alpha 0.9                                  latadj evaluate
    python eval.py --alpha 0.8,0.9,1.0 --workdir runs/bert_sst2 --dtype bfloat16
    python eval.py --speedup 1.5,2
    python eval.py --alpha 0.9 --strategy score
    python eval.py --alpha 0.95 --model MODEL --text FILE       latadj perplexity FILE
    python eval.py --alpha 0.95 --model MODEL --last_words FILE.jsonl
                                                                latadj last-words FILE.jsonl
    python eval.py --alpha 0.9 --export FOLDER --buckets 64,128 latadj export FOLDER
    python eval.py --explain "what a lovely flight" --html explain.html
                                                                latadj explain TEXT

Without --workdir or --model it takes the newest run in runs/, without --alpha the model's own.
MODEL is a folder, a hub id, a .gguf file, or package:NAME/path inside an installed package. On the
right is the same as a command, whose flags --help lists.
"""

import sys

from latadj_jax.cli.flags import Parser
from latadj_jax.cli.main import call

# What is done in place of evaluating a run, by the flag that asks for it.
COMMANDS = {
    "text": "perplexity",
    "last_words": "last-words",
    "export": "export",
    "explain": "explain",
}
# Flags that go with some of these only.
ONLY_WITH = {
    "--model": ("text", "last_words", "export", "explain"),
    "--task": ("export", "explain"),
    "--layers": ("text", "last_words"),
    "--batch_size": ("text", "last_words"),
    "--context": ("text",),
    "--continuation": ("text",),
    "--max_windows": ("text",),
    "--mode": ("text",),
    "--buckets": ("export",),
    "--html": ("explain",),
}


def main(argv: list[str]) -> None:
    if {"-h", "--help"} & {*argv}:
        return print(__doc__)
    parser = Parser("eval.py", __doc__)
    doing = parser.add_mutually_exclusive_group()
    for flag in COMMANDS:
        doing.add_argument(f"--{flag}")
    given, rest = parser.parse_known_args(argv)
    asked = next((flag for flag in COMMANDS if getattr(given, flag) is not None), None)
    for flag in (argument.split("=")[0] for argument in rest):
        if asked not in ONLY_WITH.get(flag, (asked,)):
            parser.error(f"{flag} needs {' or '.join(f'--{name}' for name in ONLY_WITH[flag])}.")
    if asked is None:
        return call("evaluate", rest, "eval.py")
    value = getattr(given, asked)
    if not value.strip():
        parser.error(f"--{asked} is empty; it needs a file, a folder or a text.")
    call(COMMANDS[asked], [*rest, "--", value], "eval.py")


if __name__ == "__main__":
    main(sys.argv[1:])
