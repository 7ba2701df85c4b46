"""Makes a finished model latency-adjustable on texts alone: an embedding model, a reranker, any.

    latadj adapt MODEL --texts texts.txt
    latadj adapt MODEL --texts pairs.tsv --columns query,document --speedup 1.5,2,3
    latadj adapt MODEL --texts texts.txt --output runs/mine --config.train.epochs=5

Nobody labels anything: what the model answers, dense, is what it learns to answer with most
word-vectors removed, at several speeds at once, and dense as before. A tenth of the texts is held
out, and the table says how far each speed is from what the model was. A .txt file has a text in
each line, or two with a tab between for a model that reads pairs; of .tsv, .csv and .jsonl files
--columns names one or two. Training settings are those of configs/adapt.py, of an embedding model
configs/embed_adapt.py, and flags as well: --config.KEY=VALUE.
"""

from pathlib import Path

import numpy as np

from latadj_jax.cli import flags, train
from latadj_jax.data.tables import local_tables
from latadj_jax.elimination.profile import Profile
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import encode, load_tokenizer
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.training.settings import Settings

SAMPLE = 2000  # texts whose lengths say which alphas are so fast


def run(argv: list[str], prog: str) -> None:
    args, overrides = _parser(prog).parse_known_args(argv)
    model, _ = from_pretrained(args.model, args.task, strict=args.strict)
    record = model.record
    if not record.agreement:
        raise ValueError(f"a model of task {model.task!r} cannot be made adjustable on texts.")
    pairs = record.reads_pairs or len(args.columns) == 2
    given = {
        "workdir": args.output or f"runs/adapt-{Path(args.model).name}",
        "model.source": args.model,
        "model.task": model.task,
        "model.strict": args.strict,
        "data.path": args.texts,
        "data.local_text_columns": args.columns or (("0", "1") if pairs else ()),
        "data.local_header": bool(args.columns),
        "eval.metrics": (record.agreement,),
    }
    base = "embed_adapt" if record is EMBEDDING else "adapt"
    flags_of = [f"--config.{key}={value}" for key, value in given.items()]
    settings = train.read_settings(base, [*flags_of, *overrides])
    alphas = alphas_of(model, settings, args.speedup)
    flags_of += [
        f"--config.elimination.alphas={alphas}",
        f"--config.elimination.alpha={alphas[len(alphas) // 2]}",
        f"--config.eval.alphas={alphas}",
    ]
    train.run(["--config", base, *flags_of, *overrides], prog)


def alphas_of(model: Model, settings: Settings, speedups: tuple[float, ...]) -> tuple[float, ...]:
    """The alphas of these speedups over the texts, each by its own length.

    Raises:
      ValueError: a speedup that texts as short as these cannot have.
    """
    e, data = settings.elimination, settings.data
    if e.fit == "falling":
        model = model.replace(profile=Profile.falling(model.config.num_layers, model.reads_all))
    else:
        model = model.replace(profile=Profile.constant(model.config.num_layers))
    texts = local_tables(data)[0].texts
    rng = np.random.default_rng(0)
    some = [texts[n] for n in rng.permutation(len(texts))[:SAMPLE]]
    tokenizer = load_tokenizer(settings.model.source)
    lengths = [len(e["input_ids"]) for e in encode(tokenizer, some, data.max_length, True)]
    return tuple(round(model.solve_alpha(lengths, speedup), 4) for speedup in speedups)


def _parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a folder, a hub id, or package:NAME/path")
    parser.add_argument("--texts", required=True, type=flags.path, metavar="FILE", help="to read")
    parser.add_argument(
        "--columns", type=flags.several(str), default=(), metavar="NAME[,NAME]",
        help="of a file with named columns: that of the texts, or two of pairs",
    )  # fmt: skip
    parser.add_argument("--output", type=flags.path, help="the run's folder (runs/adapt-MODEL)")
    parser.add_argument(
        "--speedup", type=flags.several(flags.speedup), default=(1.5, 2.0, 3.0), metavar="X[,X]",
        help="over dense, expected over the texts (1.5,2,3)",
    )  # fmt: skip
    flags.add_reading(parser)
    return parser
