"""Writes a web page that shows which tokens are kept up to which layer, with a slider for alpha.

    latadj explain "what a lovely flight" --html explain.html
    latadj explain lines.txt --alpha 1.0,0.9,0.8,0.7 --model MODEL

The page is a single file and needs no network. It shows the newest run unless you pass --model.
"""

import os
import re
from pathlib import Path

from latadj_jax.cli import flags
from latadj_jax.data.text_files import read_text
from latadj_jax.errors import SettingsError
from latadj_jax.explain.explain import explain, write_page
from latadj_jax.pretrained.tokenizers import load_tokenizer


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    source, texts = flags.given_model(args), texts_of(args.texts)
    if not Path(args.html).absolute().parent.is_dir() or Path(args.html).is_dir():
        raise SettingsError(
            f"--html {args.html} cannot be written: name a file in a folder that is there."
        )
    model, params = flags.load_given(args)
    explained = explain(model, params, load_tokenizer(source), texts, args.alpha, args.speedup)
    write_page(args.html, explained, f"Which word-vectors {source} keeps")
    print(args.html)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument("texts", metavar="TEXT", help="a text, or a file with one text per line")
    parser.add_argument(
        "--html", type=flags.path, default="explain.html", help="the file to write (explain.html)"
    )
    flags.add_model(parser)
    flags.add_alphas(parser, "at the padded length of the longest text")
    return parser


def texts_of(given: str) -> list[str]:
    """The lines of a file of that name, or the text itself.

    Raises:
      SettingsError: a folder, or what looks like the name of a file that is not there.
    """
    if os.path.isdir(given):
        raise SettingsError(
            f"this takes a text, or a file with one text per line; {given} is a folder."
        )
    if not os.path.isfile(given) and re.fullmatch(r"\S+\.(txt|csv|tsv|jsonl?)", given):
        raise SettingsError(f"there is no file {given!r} to explain.")
    lines = read_text(given).split("\n") if os.path.isfile(given) else [given]
    return [line for line in lines if line.strip()]
