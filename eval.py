"""Evaluates a run at one alpha or several, beside dense; or a language model on any text.

    python eval.py --alpha 0.9
    python eval.py --alpha 0.8,0.9,1.0 --workdir runs/bert_sst2 --dtype bfloat16
    python eval.py --alpha 0.9 --strategy score
    python eval.py --alpha 0.95 --model MODEL --text FILE
    python eval.py --alpha 0.95 --model MODEL --last_words FILE.jsonl
    python eval.py --alpha 0.9 --export FOLDER --buckets 64,128
    python eval.py --explain "what a lovely flight" --html explain.html

Without --workdir or --model it takes the newest run in runs/, without --alpha the model's own.
MODEL is a folder, a hub id, a .gguf file, or package:NAME/path inside an installed package.
"""

import os
import re
import sys
from pathlib import Path

import absl.logging
from absl import app, flags

from latadj_jax.checks import DTYPES
from latadj_jax.data.text_files import read_text
from latadj_jax.elimination.alpha import parse_alpha
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.perplexity import evaluate_file
from latadj_jax.evaluation.report import how, remaining, table
from latadj_jax.evaluation.results import Results
from latadj_jax.evaluation.settings import EvalSettings, LMSettings
from latadj_jax.explain.explain import explain, write_page
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.export import export_programs
from latadj_jax.training.evaluate_run import evaluate_run
from latadj_jax.training.run_folder import load_settings, model_of, newest_run

_ALPHA = flags.DEFINE_list("alpha", [], "coefficients, comma-separated; dense is always there")
_WORKDIR = flags.DEFINE_string("workdir", None, "the folder of a run")
_MODEL = flags.DEFINE_string(
    "model", None, "a model in place of a run, with --text, --last_words, --export or --explain"
)
_TEXT = flags.DEFINE_string("text", None, "a text file: perplexity")
_LAST_WORDS = flags.DEFINE_string(
    "last_words", None, "a JSON-lines file with texts, as LAMBADA: accuracy of their last words"
)
_EXPORT = flags.DEFINE_string(
    "export", None, "a new folder: programs that run without this library, in place of evaluating"
)
_BUCKETS = flags.DEFINE_list("buckets", [], "padded lengths of what is exported, e.g. 64,128")
_EXPLAIN = flags.DEFINE_string(
    "explain", None, "a text, or a file with one in each line: a page that shows what is removed"
)
_HTML = flags.DEFINE_string("html", "explain.html", "the file that --explain writes")
_CONTEXT = flags.DEFINE_integer("context", 512, "tokens that are pruned before what is scored", 1)
_CONTINUATION = flags.DEFINE_integer("continuation", 128, "tokens scored after each context", 1)
_MAX_WINDOWS = flags.DEFINE_integer("max_windows", 0, "windows of the text, 0 = all", 0)
_MODE = flags.DEFINE_enum(
    "mode", "sliding", ["sliding", "whole"],
    "whole: context and scored tokens are pruned as one, as some papers do; it leaks"
)  # fmt: skip
_STRATEGY = flags.DEFINE_string(
    "strategy", "", "what is kept, and whether the rest is merged; by default the model's own"
)
_LAYERS = flags.DEFINE_list("layers", [], "removes in these layers only, from 1: e.g. 4,19")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "texts at a time", 1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "", ["", *DTYPES],
    "of the computation; that of the training, or float32 where a model is named"
)  # fmt: skip


def main(argv: list[str]) -> None:
    absl.logging.set_verbosity(absl.logging.WARNING)
    try:
        if len(argv) > 1:
            raise ValueError(f"{argv[1]!r} is no flag; write e.g. --alpha 0.8,0.9 --workdir FOLDER")
        alphas = [parse_alpha(text) for text in _ALPHA.value]
        check_flags()
        for flag in (_WORKDIR, _TEXT, _LAST_WORDS, _EXPORT, _HTML):
            if flag.value:  # a shell leaves --flag=~/... as it is
                flags.FLAGS[flag.name].value = os.path.expanduser(flag.value)
        if _EXPORT.value is not None:
            return export_given(alphas)
        if _EXPLAIN.value is not None:
            return explain_given(alphas)
        if _TEXT.value is not None or _LAST_WORDS.value is not None:
            source, results = evaluate_given(alphas)
        else:
            source = given_run()
            results = evaluate_run(source, alphas, _DTYPE.value, _STRATEGY.value)
    except (ValueError, OSError) as error:
        sys.exit(f"eval.py: {error}")
    print(f"{source}\n\n{table(results)}\n\n{how(results)}\n\n{remaining(results)}")


def check_flags() -> None:
    """Raises SettingsError for flags that would be ignored."""
    doing = [flag for flag in (_TEXT, _LAST_WORDS, _EXPORT, _EXPLAIN) if flag.value is not None]
    if len(doing) > 1:
        given = " and ".join(f"--{flag.name}" for flag in doing)
        raise SettingsError(f"{given} are different things; give one of them.")
    if _MODEL.present and _WORKDIR.present:
        raise SettingsError("--workdir and --model each name a model; give one of them.")
    for flag in doing:
        if not flag.value.strip():
            raise SettingsError(f"--{flag.name} is empty; it needs a file, a folder or a text.")
    scored = _TEXT.value or _LAST_WORDS.value
    for wanted, given, of in (
        ("--text", _TEXT.value, (_CONTEXT, _CONTINUATION, _MAX_WINDOWS, _MODE)),
        ("--text or --last_words", scored, (_LAYERS, _BATCH_SIZE)),
        ("--export", _EXPORT.value, (_BUCKETS,)),
        ("--explain", _EXPLAIN.value is not None, (_HTML,)),
        ("--text, --last_words, --export or --explain", doing, (_MODEL,)),
    ):
        for flag in of:
            if flag.present and not given:
                raise SettingsError(f"--{flag.name} needs {wanted}.")


def evaluate_given(alphas: list[float]) -> tuple[str, Results]:
    layers = [parse_number("layers", text) for text in _LAYERS.value]
    source = given_model()
    lm = LMSettings(
        context=_CONTEXT.value,
        continuation=_CONTINUATION.value,
        mode=_MODE.value,
        max_windows=_MAX_WINDOWS.value,
    )
    results = evaluate_file(
        source,
        alphas,
        text=_TEXT.value,
        last_words=_LAST_WORDS.value,
        lm=lm,
        settings=EvalSettings(batch_size=_BATCH_SIZE.value),
        strategy=_STRATEGY.value,
        layers=layers,
        dtype=given_dtype(),
    )
    return source, results


def export_given(alphas: list[float]) -> None:
    source = given_model()
    model, params = loaded(source)
    buckets = [parse_number("buckets", text) for text in _BUCKETS.value]
    written = export_programs(
        _EXPORT.value, model, params, load_tokenizer(source),
        alphas=alphas, buckets=buckets, progress=True,
    )  # fmt: skip
    print(f"{_EXPORT.value}\n\n| program | expected speedup |\n|---|---|")
    for program in written["programs"]:
        print(f"| {program['file']} | {program['expected_speedup']:.2f} |")


def explain_given(alphas: list[float]) -> None:
    given, source = _EXPLAIN.value, given_model()
    if os.path.isdir(given):
        raise SettingsError(
            f"--explain takes a text or a file with one in each line; {given} is a folder."
        )
    if not os.path.isfile(given) and re.fullmatch(r"\S+\.(txt|csv|tsv|jsonl?)", given):
        raise SettingsError(f"--explain: there is no file {given!r}.")
    lines = read_text(given).split("\n") if os.path.isfile(given) else [given]
    texts = [line for line in lines if line.strip()]
    if not Path(_HTML.value).absolute().parent.is_dir() or Path(_HTML.value).is_dir():
        raise SettingsError(
            f"--html {_HTML.value} cannot be written: name a file in a folder that is there."
        )
    model, params = loaded(source)
    explained = explain(model, params, load_tokenizer(source), texts, alphas)
    write_page(_HTML.value, explained, f"Which word-vectors {source} keeps")
    print(_HTML.value)


def given_run() -> Path:
    return Path(_WORKDIR.value) if _WORKDIR.value else newest_run()


def given_model() -> str:
    return _MODEL.value or str(model_of(given_run()))


def given_dtype() -> str:
    return _DTYPE.value or ("float32" if _MODEL.value else load_settings(given_run()).model.dtype)


def loaded(source: str):
    """Model and parameters, with the flags' dtype and strategy."""
    model, params = from_pretrained(source, dtype=given_dtype())
    return model.replace(strategy=_STRATEGY.value or model.strategy), params


def parse_number(flag: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"--{flag} takes numbers, e.g. 4,19; {text!r} is none.")
    return int(text)


if __name__ == "__main__":
    app.run(main)
