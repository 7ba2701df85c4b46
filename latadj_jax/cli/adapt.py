"""Makes a finished model latency-adjustable, from texts without labels.

    latadj adapt MODEL --texts texts.txt
    latadj adapt MODEL --texts pairs.csv --columns query,document --speedup 1.5,2,3
    latadj adapt MODEL --texts texts.txt --output runs/mine --config.train.epochs=5

The model is its own teacher. At every training step it learns to give, with most tokens removed,
the answers that it gives with all of them. It learns this for several speeds at once, and keeps its
dense answers. A tenth of the texts is held out; the table at the end says how far the answers at
each speed are from those of the original model.

A .txt file holds one text per line, or two with a tab between them (for models that read pairs).
For .csv, .tsv and .jsonl files --columns names one column, or two. Training settings come from
configs/adapt.py (for embedding models configs/embed_adapt.py); each is also a flag,
--config.KEY=VALUE.
"""

import dataclasses
import logging
import math
import re
from typing import NamedTuple

import numpy as np

from latadj_jax.cli import flags, train
from latadj_jax.data.text_files import decode
from latadj_jax.elimination.strategies import DISTINCT, MERGE, SCORE, UNDECIDED
from latadj_jax.model.model import Model
from latadj_jax.pretrained import sources
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.answers import ANSWERS
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.training.jobs.job import as_trained, given_profile
from latadj_jax.training.jobs.readers import reader_of
from latadj_jax.training.settings import Settings

log = logging.getLogger(__name__)

SPEEDUPS = (1.5, 2.0, 3.0)
SAMPLE = 2000  # texts whose lengths say which alphas are so fast


def run(argv: list[str], prog: str) -> None:
    args, overrides = make_parser(prog).parse_known_args(argv)
    if args.output:
        overrides = [f"--config.workdir={args.output}", *overrides]
    model, config, given, settings = asked(args, overrides)
    alphas = alphas_of(model, settings, args.speedup)
    given += [
        f"--config.elimination.alphas={alphas}",
        f"--config.elimination.alpha={alphas[len(alphas) // 2]}",
        f"--config.elimination.sandwich={len(alphas) > 1}",
        f"--config.eval.alphas={alphas}",
    ]
    train.run(["--config", config, *given, *overrides], prog)


class Asked(NamedTuple):
    model: Model
    config: str  # its name
    given: list[str]  # flags that follow from the model and the texts
    settings: Settings  # of config, these flags, and those of the command line


def asked(args, overrides: list[str]) -> Asked:
    """What a command line of `add_texts` and settings asks for.

    Raises:
      ValueError: a model of a task without an agreement, or settings that cannot be.
    """
    model, _ = from_pretrained(args.model, args.task, strict=args.strict)
    if not model.record.agreement:
        raise ValueError(
            f"a model of task {model.task!r} cannot be adapted without labels; fine-tune it with "
            f"latadj train."
        )
    config = "embed_adapt" if model.record is EMBEDDING else "adapt"
    settings = {**_settings(args, model), **_elimination(model, overrides)}
    given = [f"--config.{key}={value}" for key, value in settings.items()]
    return Asked(model, config, given, train.read_settings(config, [*given, *overrides]))


def _settings(args, model: Model) -> dict[str, object]:
    """What follows from the model and the texts; the rest is the config's."""
    name = re.sub(r"[^\w.-]+", "-", args.model.removeprefix("package:")).strip("-.")
    most = (128, 192)[model.record is EMBEDDING]
    of_texts = model.config.embedding.max_length if model.config.embedding else None
    return {
        "workdir": f"runs/adapt-{name or 'model'}",
        "model.source": args.model,
        "model.task": model.task,
        "model.strict": args.strict,
        "data.path": args.texts,
        "data.max_length": min(most, model.config.max_positions, of_texts or most),
        "eval.metrics": (model.record.agreement,),
        **_columns(args, model),
    }


def _elimination(model: Model, overrides: list[str]) -> dict[str, object]:
    """What lost least where it was measured, see docs/depth.md and docs/jobs.md.

    Of a mean over tokens, of two alike the less attended goes, half of a speedup is by layers, and
    six tokens stay; a profile says the last two already. Where each token has an answer, what is
    settled goes.
    """
    merges, reads_mean = model.family.takes(MERGE), model.record is EMBEDDING and model.reads_all
    given = any(flag.startswith("--config.elimination.profile") for flag in overrides)
    skips = merges and reads_mean and not given
    strategy = DISTINCT if reads_mean else UNDECIDED if model.takes(UNDECIDED) else MERGE
    return {
        "elimination.strategy": strategy.name if merges else SCORE.name,
        "elimination.depth": 0.5 if skips else 0.0,
        "elimination.min_tokens": 6 if skips else 1,
    }


def _columns(args, model: Model) -> dict[str, object]:
    """The settings that say where the texts stand.

    Raises:
      ValueError: a file whose columns nobody names, or not as many as the model reads.
    """
    file = sources.local_path(args.texts)
    if file is None or not file.is_file():
        raise ValueError(f"--texts is {args.texts!r}: there is no such file.")
    if model.record is ANSWERS and not args.columns and file.suffix.lower() != ".txt":
        return {"data.text_columns": ("question", "context")}
    pairs = model.record.reads_pairs
    if args.columns:
        found, own = len(args.columns), {"data.text_columns": args.columns}
    elif file.suffix.lower() == ".txt":
        lines = [line for line in decode(file).split("\n") if line.strip()]
        found = 2 if lines and all(line.count("\t") == 1 for line in lines) else 1
        own = {"data.local_header": False}
        if found == 2:
            own["data.local_text_columns"] = ("0", "1")
    else:
        raise ValueError(f"--columns names the columns of {file.name}, one or two.")
    if pairs and found != 2:
        raise ValueError(
            f"a model of task {model.task!r} reads pairs of texts: in {file.name} each line needs "
            f"two with a tab between, or --columns two names."
        )
    return own


def alphas_of(model: Model, settings: Settings, speedups: tuple[float, ...]) -> tuple[float, ...]:
    """The alphas of these speedups over the texts, each by its own length; the slowest first.

    Args:
      speedups: () is SPEEDUPS, as far as texts as short as these can be that fast.

    Raises:
      ValueError: a speedup that they cannot have, or a profile that training is yet to measure.
    """
    profile = given_profile(model, settings)
    if profile is None:
        raise ValueError(
            "the alphas of these speedups are unknown until training measures the profile: set "
            "--config.elimination.fit=falling, or --config.elimination.calibration_examples=0."
        )
    model = as_trained(model, settings).replace(profile=profile)
    lengths = lengths_of(model, settings)
    found = []
    for speedup in sorted(set(speedups or SPEEDUPS)):
        try:
            found.append(math.floor(model.solve_alpha(lengths, speedup) * 1e4) / 1e4)
        except ValueError as error:
            if speedups or not found:
                raise
            log.warning("%s It is left out.", error)
    return tuple(sorted(set(found), reverse=True))


def lengths_of(model: Model, settings: Settings) -> np.ndarray:
    """Of some of the texts, in tokens as training would read them."""
    data, reader = settings.data, reader_of(model.record)
    names = model.config.labels if model.record.named else ()
    texts, _, _ = reader.load(dataclasses.replace(data, labels=names), model.record, settings.seed)
    rng = np.random.default_rng(0)
    some = texts.subset(np.sort(rng.permutation(len(texts))[:SAMPLE]))
    tokenizer = load_tokenizer(settings.model.source)
    return np.array(reader.encode(tokenizer, some, data, model).one_by_one.lengths)


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    add_texts(parser)
    parser.add_argument("--output", type=flags.path, help="folder of the run (runs/adapt-MODEL)")
    flags.add_reading(parser)
    return parser


def add_texts(parser: flags.Parser) -> None:
    """The flags that name a model, texts and speedups."""
    parser.add_argument("model", metavar="MODEL", help=flags.MODEL)
    parser.add_argument(
        "--texts", required=True, type=flags.path, metavar="FILE", help="the texts to learn from"
    )
    parser.add_argument(
        "--columns", type=flags.several(str), default=(), metavar="NAME[,NAME]",
        help="the column that holds the texts, or the two that hold pairs (.csv, .tsv, .jsonl)",
    )  # fmt: skip
    parser.add_argument(
        "--speedup", type=flags.several(flags.speedup), default=(), metavar="X[,X]",
        help="expected speedups over the dense model, computed from the texts (1.5,2,3)",
    )  # fmt: skip
